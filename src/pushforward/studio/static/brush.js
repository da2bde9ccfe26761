// An image on which the part that is to be drawn anew is painted, pixel by pixel; arrow keys and the space bar do the same.
export default {
  template: `<canvas ref="canvas" class="pf-brush" tabindex="0" role="application" :aria-label="label"
    @pointerdown="down" @pointermove="move" @pointerup="up" @pointercancel="up" @keydown="key" @focus="draw" @blur="draw"></canvas>`,
  props: { image: String, height: Number, width: Number, mask: Array, size: Number, erase: Boolean, label: String },
  emits: ["painted"],
  data: () => ({ own: [], painting: false, at: [0, 0] }),
  watch: { image() { this.load(); }, mask() { this.own = [...this.mask]; this.draw(); }, erase() {} },
  mounted() {
    this.own = [...(this.mask || [])];
    this.resizer = new ResizeObserver(() => this.draw());
    this.resizer.observe(this.$refs.canvas);
    this.load();
  },
  unmounted() { this.resizer.disconnect(); },
  methods: {
    load() {
      if (!this.image) return;  // it comes a moment later
      const picture = new Image();
      picture.onload = () => { this.picture = picture; this.draw(); };
      picture.src = this.image;
    },
    draw() {
      const canvas = this.$refs.canvas, ratio = window.devicePixelRatio || 1, across = canvas.clientWidth;
      if (!across) return;
      const cell = across / this.width;
      canvas.style.height = `${cell * this.height}px`;
      canvas.width = across * ratio; canvas.height = cell * this.height * ratio;
      const pen = canvas.getContext("2d");
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.imageSmoothingEnabled = false;
      if (this.picture) pen.drawImage(this.picture, 0, 0, across, cell * this.height);
      const shade = getComputedStyle(document.body).getPropertyValue("--pf-accent");
      pen.fillStyle = shade; pen.globalAlpha = 0.72;
      for (let i = 0; i < this.own.length; i++)
        if (this.own[i]) pen.fillRect((i % this.width) * cell, Math.floor(i / this.width) * cell, cell + 0.5, cell + 0.5);
      pen.globalAlpha = 1;
      if (document.activeElement === canvas) {
        pen.strokeStyle = shade; pen.lineWidth = 2;
        pen.strokeRect(this.at[0] * cell + 1, this.at[1] * cell + 1, cell - 2, cell - 2);
      }
    },
    paint(column, row) {
      const reach = (this.size - 1) / 2;
      for (let y = Math.ceil(row - reach); y <= row + reach; y++) for (let x = Math.ceil(column - reach); x <= column + reach; x++)
        if (x >= 0 && y >= 0 && x < this.width && y < this.height) this.own[y * this.width + x] = this.erase ? 0 : 1;
      this.draw();
    },
    spot(event) {
      const box = this.$refs.canvas.getBoundingClientRect();
      return [Math.floor(((event.clientX - box.left) / box.width) * this.width),
              Math.floor(((event.clientY - box.top) / box.height) * this.height)];
    },
    down(event) { this.painting = true; this.$refs.canvas.setPointerCapture(event.pointerId); this.at = this.spot(event); this.paint(...this.at); },
    move(event) { if (this.painting) this.paint(...this.spot(event)); },
    up() { if (this.painting) { this.painting = false; this.$emit("painted", this.own); } },
    key(event) {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (step) {
        this.at = [Math.min(this.width - 1, Math.max(0, this.at[0] + step[0])), Math.min(this.height - 1, Math.max(0, this.at[1] + step[1]))];
        this.draw();
      } else if (event.key === " ") { this.paint(...this.at); this.$emit("painted", this.own); } else return;
      event.preventDefault();
    },
  },
};
