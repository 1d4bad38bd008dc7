// What is wrong with the page as it is now, for people who see little, hear it read, or use no pointer: one line a fault.
const found = [];
const modal = document.querySelector('dialog:modal');
const scope = modal ?? document.body;
const all = css => [...scope.querySelectorAll(css)];
const part = e => e.tagName.toLowerCase() + (e.id && !/[0-9]/.test(e.id) ? '#' + e.id : [...e.classList].map(c => '.' + c).join(''));
const where = e => (e.parentElement && e.parentElement !== document.body ? part(e.parentElement) + ' > ' : '') + part(e);
const say = (rule, e, what) => found.push(`${rule}: ${where(e)}: ${what}`);
const words = t => (t ?? '').replace(/\s+/g, ' ').trim();
const box = e => e.getBoundingClientRect();
// Texts for screen readers are one pixel large.
const seen = e => e.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && box(e).width > 1.5 && box(e).height > 1.5 && !e.closest('.hidden-text, .skip:not(:focus)');

// Names.
const named = 'button, a[href], input:not([type=hidden]), select, textarea, summary, dialog, nav, aside, [role=log], [role=listbox], [role=option], [role=separator], [role=search], [role=combobox]';
const nameOf = e =>
  words(e.getAttribute('aria-label')) ||
  words((e.getAttribute('aria-labelledby') ?? '').split(/\s+/).map(id => document.getElementById(id)?.textContent).join(' ')) ||
  words([...(e.labels ?? [])].map(l => l.textContent).join(' ')) ||
  (/^(BUTTON|A|SUMMARY|LI)$/.test(e.tagName) ? words(e.textContent) : '') ||
  words(e.getAttribute('title'));
for (const e of all(named).concat(modal ?? [])) {
  if (e.checkVisibility({ visibilityProperty: true }) && e.getAttribute('aria-hidden') !== 'true' && !nameOf(e)) say('name', e, 'it has none');
}
for (const e of all('img')) if (!e.hasAttribute('alt')) say('name', e, 'a picture without a text');
const ids = new Map();
for (const e of document.querySelectorAll('[id]')) {
  if (ids.has(e.id)) say('id', e, `twice: ${e.id}`);
  ids.set(e.id, e);
}

// Contrast: 4.5 to 1, or 3 to 1 for large letters.
const canvas = Object.assign(document.createElement('canvas'), { width: 1, height: 1 }).getContext('2d', { willReadFrequently: true });
const parsed = new Map();
const rgba = colour => {
  if (!parsed.has(colour)) {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    parsed.set(colour, [r, g, b, a / 255]);
  }
  return parsed.get(colour);
};
const over = ([r, g, b, a], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a), 1];
const behind = e => {
  const layers = [];
  for (let at = e; at; at = at.parentElement) {
    const style = getComputedStyle(at);
    if (style.backgroundImage !== 'none') return null;
    const colour = rgba(style.backgroundColor);
    if (colour[3] > 0) layers.push(colour);
    if (colour[3] > 0.99) break;
    // A dialog has its own ground.
    if (at === modal) break;
  }
  return layers.reverse().reduce((ground, layer) => over(layer, ground), [255, 255, 255, 1]);
};
const light = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map(v => v / 255).map(v => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const contrast = (e, style, text) => {
  const ground = behind(e);
  if (!ground || !/[\p{L}\p{N}]/u.test(text) || e.closest(':disabled, [aria-disabled=true]')) return;
  let ink = rgba(style.color);
  let opacity = 1;
  for (let at = e; at; at = at.parentElement) opacity *= Number(getComputedStyle(at).opacity);
  if (opacity < 0.05) return;
  ink = over([ink[0], ink[1], ink[2], ink[3] * opacity], ground);
  const [high, low] = [light(ink), light(ground)].sort((a, b) => b - a);
  const ratio = (high + 0.05) / (low + 0.05);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 600);
  if (ratio < (large ? 3 : 4.5)) say('contrast', e, `${ratio.toFixed(2)} to 1: ${text.slice(0, 40)}`);
};
const texts = document.createTreeWalker(scope, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const text = words(texts.currentNode.textContent);
  const e = texts.currentNode.parentElement;
  if (text && !/^(SCRIPT|STYLE|TEXTAREA|OPTION)$/.test(e.tagName) && seen(e)) contrast(e, getComputedStyle(e), text);
}
for (const e of all('input, textarea')) {
  if (!seen(e) || /^(radio|checkbox|file)$/.test(e.type)) continue;
  if (e.value) contrast(e, getComputedStyle(e), e.value);
  else if (words(e.placeholder)) contrast(e, getComputedStyle(e, '::placeholder'), e.placeholder);
}

// Targets: 24 by 24 pixels. Links within a sentence need no room; the edge of a pane can be moved by keys.
for (const e of all('button, a[href], input, select, textarea, summary, [role=option]')) {
  const target = /^(radio|checkbox)$/.test(e.type) ? e.closest('label') ?? e : e;
  if (!seen(target) || e.closest('[aria-hidden=true]') || (e.tagName === 'A' && getComputedStyle(e).display === 'inline')) continue;
  const { width, height } = box(target);
  if (Math.min(width, height) < 23.5) say('target', e, `${Math.round(width)} by ${Math.round(height)} pixels`);
}

// Nothing is wider than the screen.
if (document.documentElement.scrollWidth > innerWidth + 1) say('width', document.documentElement, `${document.documentElement.scrollWidth} of ${innerWidth} pixels`);

// The order of headings, landmarks, language.
let level = 1;
for (const e of all('h1, h2, h3, h4, h5, h6')) {
  if (!e.checkVisibility({ visibilityProperty: true })) continue;
  const own = Number(e.tagName[1]);
  if (own > level + 1) say('heading', e, `${own} follows ${level}`);
  level = own;
}
const root = document.documentElement;
if (!root.lang) say('language', root, 'it says none');
if ((root.dir === 'rtl') !== /^(ar|fa|he|ur)\b/.test(root.lang)) say('language', root, `${root.lang} goes ${root.dir}`);
const mains = [...document.querySelectorAll('main')].filter(e => e.checkVisibility());
if (mains.length > 1) say('landmark', mains[1], 'a second main');
if (!modal && !mains.length && !document.querySelector('section[aria-label], nav')) say('landmark', document.body, 'none');

// What changes by itself is said.
if (document.querySelector('.app') && !document.querySelector('[role=status][aria-live]')) say('live', document.body, 'nothing says what changes');
for (const e of document.querySelectorAll('[data-testid=history]')) {
  if (e.getAttribute('role') !== 'log' || e.getAttribute('aria-live') !== 'polite') say('live', e, 'the history is no log');
}

// Less motion, where it was asked for.
if (matchMedia('(prefers-reduced-motion: reduce)').matches) {
  const seconds = list => Math.max(...list.split(',').map(t => parseFloat(t) * (t.trim().endsWith('ms') ? 0.001 : 1)));
  for (const e of document.querySelectorAll('*')) {
    const style = getComputedStyle(e);
    if (seconds(style.transitionDuration) > 0.01 || (style.animationName !== 'none' && seconds(style.animationDuration) > 0.01)) say('motion', e, 'it moves');
  }
}
return [...new Set(found)];
