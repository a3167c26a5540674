// Appended to a copy of a page or a picture: says which text is cut off or lies over another one.
const problems = [];
const boxOf = (element) => element.getBoundingClientRect();
const isInside = (box, around) =>
  box.left >= around.left - 0.5 && box.right <= around.right + 0.5 &&
  box.top >= around.top - 0.5 && box.bottom <= around.bottom + 0.5;
const overlap = (one, other) =>
  Math.min(one.right, other.right) - Math.max(one.left, other.left) > 0.5 &&
  Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > 1;
const texts = Array.from(document.querySelectorAll("svg text"), (element) => {
  const says = Array.from(element.childNodes).filter((node) => node.nodeName !== "title");
  return { says: says.map((node) => node.textContent).join(""), box: boxOf(element), element };
});
for (const [at, text] of texts.entries()) {
  const bar = text.element.parentNode.querySelector(":scope > title + rect");
  if (!isInside(text.box, boxOf(text.element.ownerSVGElement))) problems.push("cut off: " + text.says);
  if (bar !== null && !isInside(text.box, boxOf(bar))) problems.push("wider than its bar: " + text.says);
  if (text.box.width === 0) problems.push("not shown: " + text.says);
  for (const other of texts.slice(at + 1)) {
    if (overlap(text.box, other.box)) problems.push("overlap: " + text.says + " / " + other.says);
  }
}
if (document.documentElement.scrollWidth > window.innerWidth) problems.push("wider than the window");
document.documentElement.setAttribute("data-texts", texts.length);
document.documentElement.setAttribute("data-problems", problems.join("; "));
console.error("measured");
