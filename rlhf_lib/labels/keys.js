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
  const echo = document.createElement("span");
  label.append(off, live, echo);
  el.append(label);

  function describe() {
    live.textContent = `Keys are on: ${model.get("hint")} `;
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
  };
}

export default { render };
