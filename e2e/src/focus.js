// Where the focus is, and whether one sees it.
const e = document.activeElement;
if (!e || e === document.body) return null;
const outlined = (at, pseudo) => {
  const style = getComputedStyle(at, pseudo);
  return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1;
};
const frame = e.closest('.box, .chips, .choice label');
const shadow = frame && (getComputedStyle(frame).boxShadow !== 'none' || outlined(frame));
const edge = e.matches('.grip') && !/rgba\(0, 0, 0, 0\)|transparent/.test(getComputedStyle(e, '::after').backgroundColor);
const bubble = e.matches('.message') && outlined(e.querySelector('.bubble') ?? e);
const name = e.getAttribute('aria-label') || [...(e.labels ?? [])].map(l => l.innerText).join(' ') || e.innerText || e.id;
const number = (window.focusNumbers ??= new WeakMap());
if (!number.has(e)) number.set(e, (window.focusCount = (window.focusCount ?? 0) + 1));
const r = e.getBoundingClientRect();
// Nothing lies over it.
const top = document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2);
const label = e.closest('label');
const free = !top || e.contains(top) || top.contains(e) || (label && label.contains(top));
return {
  element: number.get(e),
  what: `${e.tagName.toLowerCase()}.${[...e.classList].join('.')} ${name.trim().slice(0, 40)}`,
  visible: Boolean(outlined(e) || shadow || edge || bubble),
  inside: r.bottom > 0 && r.right > 0 && r.top < innerHeight && r.left < innerWidth && Boolean(free),
};
