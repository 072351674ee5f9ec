// The labeler's keys: live only while something inside the labeler box has the focus, and passed to nobody else.
// Sends {key, view, age}: which item it was pressed on, and for how many seconds that had been shown. Python decides what
// a key means, and ignores one that came too soon or too late. Of clicks it lets one through for each item.
const DOUBLE_MS = 200; // nobody reads four texts in this time
const AGAIN_MS = 10000; // after so long a click that had no effect may be tried again
const PATIENCE_MS = 3000; // a kernel that has not heard a key by then is busy or gone, and the labeler should know

function box(element) {
  return element.closest(".rlhf-labeler");
}

function typing(target) {
  return target.closest("textarea, input[type=text], [contenteditable=true]") !== null;
}

// What was pressed, as `known` names it. Where digits need Shift (French keyboards), the key itself counts.
function named(event, known) {
  const key = event.key.toLowerCase();
  const digit = /^Digit([1-9])$/.exec(event.code);
  return !known.includes(key) && digit && !event.shiftKey && known.includes(digit[1]) ? digit[1] : key;
}

// What a field is for, said to a screen reader too: its placeholder is gone as soon as something is written.
function nameFields(around) {
  for (const field of around.querySelectorAll("textarea[placeholder], input[placeholder]")) {
    field.setAttribute("aria-label", field.placeholder);
  }
}

function render({ model, el }) {
  const stop = new AbortController();
  const label = document.createElement("span");
  label.className = "rlhf-keys";
  const [off, live, typed] = ["off", "live", "typing"].map((name) => {
    const part = document.createElement("span");
    part.className = `rlhf-keys-${name}`;
    return part;
  });
  off.textContent = "Keys are off: click here, or Tab into the box, to turn them on. ";
  typed.textContent = "Keys are off while you type: Esc leaves the field. ";
  const hint = document.createElement("span");
  const echo = document.createElement("span");
  echo.setAttribute("role", "status");
  live.append(hint);
  label.append(off, live, typed, echo);
  el.append(label);

  function describe() {
    hint.textContent = `Keys are on: ${model.get("hint")} `;
  }
  describe();
  model.on("change:hint", describe);

  let shownAt = performance.now();
  let clicked = { view: null, at: 0 };
  function sift(event) {
    if (!event.target.closest(".rlhf-moves")) return;
    const now = performance.now();
    const again = clicked.view === model.get("view") && now - clicked.at < AGAIN_MS;
    if (again || now - shownAt < DOUBLE_MS) {
      event.preventDefault();
      event.stopPropagation(); // caught on its way down: the button never hears of it
    } else {
      clicked = { view: model.get("view"), at: now };
    }
  }

  let waiting = null;
  function send(key) {
    echo.textContent = `(pressed ${key})`;
    model.send({ key, view: model.get("view"), age: (performance.now() - shownAt) / 1000 });
    waiting ??= setTimeout(() => {
      echo.textContent = "No answer yet: the kernel is busy or gone. What you see is not saved; wait, or reload the page.";
    }, PATIENCE_MS);
  }
  function heard() {
    clearTimeout(waiting);
    waiting = null;
    if (echo.textContent.startsWith("No answer")) echo.textContent = "";
  }
  model.on("change:heard", heard);

  // Before the text field itself sees the key, because it lets none through.
  function leaveField(event) {
    if (!typing(event.target) || event.isComposing) return;
    const saves = event.key === "Enter" && (event.ctrlKey || event.metaKey) && model.get("known").includes("enter");
    if (!saves && event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    box(el).focus({ preventScroll: true }); // leaving the field sends what is in it, before the key
    if (saves) send("enter");
  }

  function press(event) {
    if (event.key === "Tab" || event.ctrlKey || event.altKey || event.metaKey) return;
    event.stopPropagation(); // arrows and Enter too: a notebook around would move to another cell
    if (typing(event.target)) return;
    const known = model.get("known");
    const key = named(event, known);
    if (key === "enter" && event.target.closest("button")) return; // the button's own
    if (known.includes(key)) {
      event.preventDefault();
      if (!event.repeat) send(key);
    } else if (event.key.length === 1 && event.key !== " ") {
      event.preventDefault();
      echo.textContent = `(${event.key}: no such key here)`;
    }
  }

  // The next item may bring other buttons: the focus of one that went away is not lost, but comes to the box.
  let inside = false;
  function keep() {
    const around = box(el);
    shownAt = performance.now();
    if (around) around.dataset.view = model.get("view");
    requestAnimationFrame(() => {
      const lost = !document.activeElement || document.activeElement === document.body;
      if (inside && lost && around) around.focus({ preventScroll: true });
    });
  }
  model.on("change:view", keep);

  function watch(around) {
    const options = { signal: stop.signal };
    const type = (target) => around.classList.toggle("rlhf-typing", Boolean(target) && typing(target));
    around.addEventListener("focusin", (event) => {
      inside = true;
      type(event.target);
    }, options);
    around.addEventListener("focusout", (event) => {
      inside = !event.relatedTarget || around.contains(event.relatedTarget);
      type(null);
    }, options);
    document.addEventListener("mousedown", (event) => (inside = around.contains(event.target)), { ...options, capture: true });
    // A click on plain text inside the box turns the keys on; buttons and text fields take the focus themselves.
    around.addEventListener("mouseup", (event) => {
      if (!event.target.closest("button, textarea, input, a") && !String(window.getSelection())) {
        around.focus({ preventScroll: true });
      }
    }, options);
    around.addEventListener("click", sift, { ...options, capture: true });
    around.addEventListener("keydown", leaveField, { ...options, capture: true });
    around.addEventListener("keydown", press, options);
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
    around.dataset.view = model.get("view");
    around.setAttribute("role", "group");
    around.setAttribute("aria-label", model.get("label"));
    around.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab's listens before the box does, and heeds this
    const said = around.querySelector(".rlhf-said");
    if (said) said.setAttribute("aria-live", "polite");
    nameFields(around);
    fields.observe(around, { childList: true, subtree: true });
    watch(around);
    model.set("at_work", true);
    model.save_changes();
    if (model.get("at_once")) around.focus({ preventScroll: true });
  }
  const fields = new MutationObserver(() => nameFields(box(el) ?? el));
  attach();
  return () => {
    stop.abort();
    fields.disconnect();
    clearTimeout(waiting);
    model.off("change:hint", describe);
    model.off("change:heard", heard);
    model.off("change:view", keep);
  };
}

export default { render };
