// The labeler's keys: live only while something inside the labeler box has the focus, and passed to nobody else.
// Sends {key, view}; Python decides what a key means, and ignores one pressed on an item that is no longer shown.
function box(element) {
  return element.closest(".rlhf-labeler");
}

function typing(target) {
  return target.closest("textarea, input[type=text], [contenteditable=true]") !== null;
}

function render({ model, el }) {
  const stop = new AbortController();
  const label = document.createElement("span");
  label.className = "rlhf-keys";
  const off = document.createElement("span");
  off.className = "rlhf-keys-off";
  off.textContent = "Keys are off: click here, or Tab into the box, to turn them on. ";
  const live = document.createElement("span");
  live.className = "rlhf-keys-live";
  const hint = document.createElement("span");
  const echo = document.createElement("span");
  live.append(hint, echo);
  label.append(off, live);
  el.append(label);

  function describe() {
    hint.textContent = `Keys are on: ${model.get("hint")} `;
  }
  describe();
  model.on("change:hint", describe);

  function press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || typing(event.target)) return;
    const key = event.key.toLowerCase();
    if (!model.get("known").includes(key)) {
      if (event.key.length === 1 && event.key !== " ") {
        event.preventDefault();
        event.stopPropagation();
        echo.textContent = `(${event.key}: no such key here)`;
      }
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    if (event.repeat) return;
    echo.textContent = `(pressed ${key})`;
    model.send({ key, view: model.get("view") });
  }

  // The next item may bring other buttons: the focus of one that went away is not lost, but comes to the box.
  let inside = false;
  function keep() {
    const around = box(el);
    requestAnimationFrame(() => {
      const lost = !document.activeElement || document.activeElement === document.body;
      if (inside && lost && around) around.focus({ preventScroll: true });
    });
  }
  model.on("change:view", keep);

  function watch(around) {
    const options = { signal: stop.signal };
    around.addEventListener("focusin", () => (inside = true), options);
    around.addEventListener("focusout", (event) => (inside = !event.relatedTarget || around.contains(event.relatedTarget)), options);
    document.addEventListener("mousedown", (event) => (inside = around.contains(event.target)), { ...options, capture: true });
  }

  // The box becomes an ancestor of `el` only once the view is attached to the page.
  let tries = 0;
  function attach() {
    const around = box(el);
    if (!around) {
      if (tries++ < 600) requestAnimationFrame(attach);
      return;
    }
    around.tabIndex = 0;
    around.setAttribute("role", "group");
    around.setAttribute("aria-label", model.get("label"));
    around.setAttribute("data-lm-suppress-shortcuts", "true");
    const said = around.querySelector(".rlhf-said");
    if (said) said.setAttribute("aria-live", "polite");
    around.addEventListener("keydown", press, { signal: stop.signal });
    watch(around);
    // A click on plain text inside the box turns the keys on; buttons and text fields take the focus themselves.
    around.addEventListener(
      "mouseup",
      (event) => {
        if (!event.target.closest("button, textarea, input, a") && !String(window.getSelection())) {
          around.focus({ preventScroll: true });
        }
      },
      { signal: stop.signal },
    );
  }
  attach();
  return () => {
    stop.abort();
    model.off("change:hint", describe);
    model.off("change:view", keep);
  };
}

export default { render };
