// Points in the plane: data, samples, a density or score as colors, a field of arrows, and paths over time.
// With `pen` points can be drawn; they are sent when the pointer is lifted.
const color = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();

export default {
  template: `
    <div class="pf-plane">
      <canvas ref="canvas" :aria-label="label" role="img" :class="{ pen }"
        @pointerdown="down" @pointermove="move" @pointerup="up" @pointercancel="up"></canvas>
      <div v-if="hasPaths" class="pf-time">
        <button type="button" class="pf-play" @click="play" :aria-label="playing ? 'Pause' : 'Play from noise to data'">
          {{ playing ? "❚❚" : "▶" }}</button>
        <span>noise</span>
        <input type="range" min="0" max="1000" v-model.number="moment" @input="moved" aria-label="Time from noise to data">
        <span>data</span>
        <output>t = {{ time.toFixed(2) }}</output>
      </div>
    </div>`,
  props: { scene: Object, label: String, pen: Boolean },
  emits: ["time", "drawn"],
  data: () => ({ moment: 1000, playing: false, fresh: [], spraying: false, sent: 0 }),
  computed: {
    hasPaths() { return !!(this.scene && this.scene.paths && this.scene.paths.times.length > 1); },
    time() {
      if (!this.hasPaths) return 0;
      const { at, part } = this.place(), times = this.scene.paths.times;
      return times[at] + part * (times[Math.min(at + 1, times.length - 1)] - times[at]);
    },
  },
  watch: {
    scene() { this.fresh = []; this.draw(); },
    moment() { this.draw(); },
  },
  mounted() {
    this.resizer = new ResizeObserver(() => this.draw());
    this.resizer.observe(this.$refs.canvas);
    this.themer = new MutationObserver(() => this.draw());
    this.themer.observe(document.body, { attributes: true, attributeFilter: ["class"] });
    this.draw();
  },
  unmounted() { this.resizer.disconnect(); this.themer.disconnect(); this.playing = false; },
  methods: {
    place() {
      const steps = this.scene.paths.times.length - 1, along = (this.moment / 1000) * steps;
      const at = Math.min(Math.floor(along), steps - 1);
      return { at, part: along - at };
    },
    moved() {
      this.playing = false;
      this.tell();
    },
    tell() {
      const now = performance.now();
      clearTimeout(this.late);
      if (now - this.sent > 150) { this.sent = now; this.$emit("time", this.time); }
      else this.late = setTimeout(() => { this.sent = performance.now(); this.$emit("time", this.time); }, 160);
    },
    play() {
      this.playing = !this.playing;
      if (!this.playing) return;
      if (this.moment >= 1000) this.moment = 0;
      let last = performance.now();
      const step = (now) => {
        if (!this.playing) return;
        this.moment = Math.min(1000, this.moment + (now - last) / 3);
        last = now;
        this.tell();
        if (this.moment >= 1000) this.playing = false; else requestAnimationFrame(step);
      };
      requestAnimationFrame(step);
    },
    draw() {
      const canvas = this.$refs.canvas;
      if (!canvas || !this.scene) return;
      const ratio = window.devicePixelRatio || 1, side = canvas.clientWidth;
      if (!side) return;
      if (canvas.width !== Math.round(side * ratio)) canvas.width = canvas.height = Math.round(side * ratio);
      const pen = canvas.getContext("2d");
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, side, side);
      const [x0, x1, y0, y1] = this.scene.square;
      this.to = (x, y) => [((x - x0) / (x1 - x0)) * side, (1 - (y - y0) / (y1 - y0)) * side];
      this.heat(pen, side);
      this.grid(pen, side);
      const faint = this.scene.samples || this.scene.paths;
      this.cloud(pen, this.scene.data, color(faint ? "--pf-data" : "--pf-samples"), side, 0.55, this.scene.groups);
      this.arrows(pen, this.scene.exact, color("--pf-exact"), side);
      this.arrows(pen, this.scene.field, color("--pf-ink"), side);
      if (this.hasPaths) this.trails(pen, side);
      else this.cloud(pen, this.scene.samples, color("--pf-samples"), side, 0.8);
      this.contours(pen, this.scene.exact_contours, color("--pf-exact"), 2.5);
      this.contours(pen, this.scene.contours, color("--pf-ink"), 1);
      this.cloud(pen, this.fresh, color("--pf-accent"), side, 0.9);
    },
    grid(pen, side) {
      const [x0, x1, y0, y1] = this.scene.square;
      const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100].map((s) => s * 10 ** (Math.floor(Math.log10(x1 - x0)) - 1))
        .find((s) => (x1 - x0) / s <= 8) || (x1 - x0) / 5;
      pen.strokeStyle = color("--pf-line"); pen.fillStyle = color("--pf-soft"); pen.lineWidth = 1; pen.font = "11px system-ui";
      const say = (value) => String(Number(value.toPrecision(6)));
      for (let x = Math.ceil(x0 / step) * step; x <= x1; x += step) {
        const [at] = this.to(x, y0);
        pen.beginPath(); pen.moveTo(at, 0); pen.lineTo(at, side); pen.stroke(); pen.fillText(say(x), at + 3, side - 4);
      }
      for (let y = Math.ceil(y0 / step) * step; y <= y1; y += step) {
        const at = this.to(x0, y)[1];
        pen.beginPath(); pen.moveTo(0, at); pen.lineTo(side, at); pen.stroke();
        if (at < side - 16 && at > 14) pen.fillText(say(y), 3, at - 3);
      }
    },
    cloud(pen, flat, shade, side, alpha, groups) {
      if (!flat) return;
      const colors = ["--pf-g0", "--pf-g1", "--pf-g2", "--pf-g3", "--pf-g4", "--pf-g5", "--pf-g6", "--pf-g7", "--pf-g8", "--pf-g9"].map(color);
      const radius = Math.max(1.3, Math.min(3, (side / 200) * Math.min(1.3, 25 / Math.sqrt(flat.length / 2 + 1) + 0.6)));
      pen.globalAlpha = alpha; pen.fillStyle = shade;
      for (let i = 0; i < flat.length; i += 2) {
        const [x, y] = this.to(flat[i], flat[i + 1]);
        if (groups) pen.fillStyle = colors[groups[i / 2] % colors.length];
        pen.beginPath(); pen.arc(x, y, radius, 0, 6.2832); pen.fill();
      }
      pen.globalAlpha = 1;
    },
    heat(pen, side) {
      const heat = this.scene.heat;
      if (!heat) return;
      const n = heat.side, image = new ImageData(n, n), at = (name) => color(name).match(/[0-9a-f]{2}/gi).map((h) => parseInt(h, 16));
      const low = at("--pf-card"), high = at("--pf-heat"), cold = at("--pf-cold");
      for (let row = 0; row < n; row++) for (let column = 0; column < n; column++) {
        const value = heat.values[row * n + column] / 100, target = value < 0 ? cold : high, share = Math.min(1, Math.abs(value));
        const place = ((n - 1 - row) * n + column) * 4;
        for (let c = 0; c < 3; c++) image.data[place + c] = low[c] + (target[c] - low[c]) * share;
        image.data[place + 3] = 255;
      }
      const small = document.createElement("canvas");
      small.width = small.height = n;
      small.getContext("2d").putImageData(image, 0, 0);
      pen.imageSmoothingEnabled = true; pen.imageSmoothingQuality = "high";
      const edge = side / (2 * (n - 1));  // the values belong to the corners of the square
      pen.drawImage(small, -edge, -edge, side + 2 * edge, side + 2 * edge);
    },
    // Lines of equal density: each cell of the grid is cut where the level lies between its corners.
    contours(pen, map, shade, width) {
      if (!map) return;
      const n = map.side, side = this.$refs.canvas.clientWidth, step = side / (n - 1), at = (row, column) => map.values[row * n + column];
      pen.strokeStyle = shade; pen.lineWidth = width; pen.globalAlpha = 0.9; pen.beginPath();
      for (const level of [100, 400, 700]) for (let row = 0; row + 1 < n; row++) for (let column = 0; column + 1 < n; column++) {
        const corners = [[row, column], [row, column + 1], [row + 1, column + 1], [row + 1, column]], cuts = [];
        for (let k = 0; k < 4; k++) {
          const [r0, c0] = corners[k], [r1, c1] = corners[(k + 1) % 4], a = at(r0, c0), b = at(r1, c1);
          if (a >= level === b >= level) continue;
          const share = (level - a) / (b - a);
          cuts.push([(c0 + share * (c1 - c0)) * step, side - (r0 + share * (r1 - r0)) * step]);
        }
        for (let k = 0; k + 1 < cuts.length; k += 2) { pen.moveTo(...cuts[k]); pen.lineTo(...cuts[k + 1]); }
      }
      pen.stroke(); pen.globalAlpha = 1;
    },
    arrows(pen, field, shade, side) {
      if (!field) return;
      const cell = side / field.side, [x0, x1] = this.scene.square;
      pen.strokeStyle = pen.fillStyle = shade; pen.lineWidth = 1.2; pen.globalAlpha = 0.75;
      for (let i = 0; i < field.points.length; i += 2) {
        const [x, y] = this.to(field.points[i], field.points[i + 1]);
        const dx = field.vectors[i] * cell * 0.9, dy = -field.vectors[i + 1] * cell * 0.9, length = Math.hypot(dx, dy);
        if (length < 0.6) continue;
        const head = Math.min(5, length * 0.45), a = Math.atan2(dy, dx), ex = x + dx / 2, ey = y + dy / 2;
        pen.beginPath(); pen.moveTo(x - dx / 2, y - dy / 2); pen.lineTo(ex, ey);
        pen.moveTo(ex - head * Math.cos(a - 0.5), ey - head * Math.sin(a - 0.5)); pen.lineTo(ex, ey);
        pen.lineTo(ex - head * Math.cos(a + 0.5), ey - head * Math.sin(a + 0.5)); pen.stroke();
      }
      pen.globalAlpha = 1;
    },
    trails(pen, side) {
      const { states, trails } = this.scene.paths, { at, part } = this.place(), n = states[0].length / 2;
      const spot = (i) => {
        const a = states[at], b = states[Math.min(at + 1, states.length - 1)];
        return this.to(a[2 * i] + part * (b[2 * i] - a[2 * i]), a[2 * i + 1] + part * (b[2 * i + 1] - a[2 * i + 1]));
      };
      pen.strokeStyle = color("--pf-samples"); pen.globalAlpha = 0.35; pen.lineWidth = 1;
      for (let i = 0; i < Math.min(trails, n); i++) {
        pen.beginPath();
        for (let s = 0; s <= at; s++) { const [x, y] = this.to(states[s][2 * i], states[s][2 * i + 1]); s ? pen.lineTo(x, y) : pen.moveTo(x, y); }
        pen.lineTo(...spot(i)); pen.stroke();
      }
      pen.globalAlpha = 0.85; pen.fillStyle = color("--pf-samples");
      const radius = side / 230;
      for (let i = 0; i < n; i++) { const [x, y] = spot(i); pen.beginPath(); pen.arc(x, y, Math.max(1.5, radius), 0, 6.2832); pen.fill(); }
      pen.globalAlpha = 1;
    },
    down(event) {
      if (!this.pen) return;
      this.spraying = true;
      this.$refs.canvas.setPointerCapture(event.pointerId);
      this.spray(event, 1);
    },
    move(event) { if (this.spraying) this.spray(event, 3); },
    up() {
      if (!this.spraying) return;
      this.spraying = false;
      this.$emit("drawn", this.fresh);
    },
    spray(event, count) {
      const box = this.$refs.canvas.getBoundingClientRect(), [x0, x1, y0, y1] = this.scene.square, gauss = () => {
        let sum = -6; for (let k = 0; k < 12; k++) sum += Math.random(); return sum;
      };
      for (let k = 0; k < count; k++) {
        const spread = count > 1 ? 0.012 : 0;
        const x = x0 + ((event.clientX - box.left) / box.width + spread * gauss()) * (x1 - x0);
        const y = y1 - ((event.clientY - box.top) / box.height + spread * gauss()) * (y1 - y0);
        this.fresh.push(Number(x.toFixed(4)), Number(y.toFixed(4)));
      }
      this.draw();
    },
  },
};
