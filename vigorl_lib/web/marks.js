// What can be seen in the window: elements that one can act upon, and pieces of text, in the order of the document.
// The selectors for the former are VisualWebArena's. Places are CSS pixels from the window's upper left corner.
(limit) => {
  const interactable = ["a[href]:not(:has(img))", "a[href] img", "button", "input:not([type=hidden])", "textarea",
    "select", "[tabindex]:not([tabindex='-1'])", "[contenteditable=true]", "[role=button]", "[role=link]",
    "[role=checkbox]", "[role=menuitem]", "[role=tab]", "[draggable=true]", ".btn", ".fa.fa-star.is-rating-item"].join(", ");
  const written = ["checkbox", "radio", "button", "submit", "reset", "image", "file", "color", "range"];
  const tidy = (text) => String(text ?? "").replace(/\s+/g, " ").trim().slice(0, 200);
  const own = (element) => [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE)
    .map((node) => node.data).join(" ");
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const act = element.matches(interactable);
    if (!act && (element.closest(interactable) || element.closest("script, style, noscript") || !tidy(own(element)))) continue;
    const box = element.getBoundingClientRect();
    if (box.width === 0 || box.height === 0 || !element.checkVisibility({visibilityProperty: true})) continue;
    if (box.bottom <= 0 || box.right <= 0 || box.top >= innerHeight || box.left >= innerWidth) continue;
    const tag = element.tagName;
    const text = tidy(tag === "IMG" ? element.alt : tag === "SELECT" ? element.selectedOptions[0]?.textContent
      : tag === "INPUT" || tag === "TEXTAREA" ? "" : act ? element.textContent : own(element));
    const label = tidy(element.getAttribute("aria-label") || element.labels?.[0]?.textContent || element.placeholder
      || element.title || (tag === "INPUT" ? element.value : ""));
    const editable = (tag === "TEXTAREA" || element.isContentEditable || (tag === "INPUT" && !written.includes(element.type)))
      && !element.readOnly && !element.matches(":disabled");
    found.push({act, tag, text, label, editable, box: [box.left, box.top, box.right, box.bottom]});
    if (found.length >= limit) break;
  }
  return found;
}
