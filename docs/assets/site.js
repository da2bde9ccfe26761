// Wide tables scroll sideways. With a tab index they do so by keyboard too.
document$.subscribe(() => {
  setTimeout(() => {
    for (const frame of document.querySelectorAll(".md-typeset__scrollwrap")) {
      if (frame.scrollWidth > frame.clientWidth) {
        frame.tabIndex = 0;
      }
    }
  });
});
