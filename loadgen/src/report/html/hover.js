// What the pointer finds on a chart, beside the pointer. Without this the browser shows the same text by itself, a moment later.
(() => {
  const tip = document.createElement('div');
  tip.className = 'tip';
  tip.hidden = true;
  tip.setAttribute('aria-hidden', 'true');
  document.body.append(tip);
  const texts = new Map();
  for (const svg of document.querySelectorAll('.plot svg')) {
    for (const title of [...svg.querySelectorAll('title')]) {
      if (title.parentNode !== svg) texts.set(title.parentNode, title.textContent);
      title.remove();
    }
    const show = (event) => {
      const text = texts.get(event.target);
      tip.hidden = !text;
      if (!text) return;
      tip.textContent = text;
      const { width, height } = tip.getBoundingClientRect();
      const left = event.clientX + 14 + width > innerWidth ? event.clientX - 14 - width : event.clientX + 14;
      const top = Math.min(event.clientY + 14, innerHeight - height - 8);
      tip.style.left = Math.max(left, 4) + 'px';
      tip.style.top = Math.max(top, 4) + 'px';
    };
    svg.addEventListener('pointermove', show);
    svg.addEventListener('pointerdown', show);
    svg.addEventListener('pointerleave', () => { tip.hidden = true; });
  }
})();
