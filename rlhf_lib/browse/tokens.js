// The token inspector's page: tokens coloured by one number, and all numbers of the token that is pointed at.
// Texts come from models, so that they are only ever set as text, never as markup.
function made(name, className, text = "") {
  const element = document.createElement(name);
  element.className = className;
  element.textContent = text;
  return element;
}

function button(text, act) {
  const element = made("button", "jupyter-button", text);
  element.addEventListener("click", act);
  return element;
}

// A token alone may be a space or a line end; in the details it has to be seen.
function seen(text) {
  return text.replaceAll("\n", "⏎").trim() || "␣";
}

function render({ model, el }) {
  const root = made("div", "rlhf-tokens");
  const head = made("div", "rlhf-tokens-row");
  const title = made("strong", "");
  const colours = made("select", "");
  const context = made("div", "rlhf-tokens-context");
  const text = made("div", "rlhf-tokens-text");
  const details = made("table", "");
  text.setAttribute("role", "listbox");
  text.setAttribute("aria-label", "Tokens of the response; arrow keys move");
  details.setAttribute("aria-live", "polite");
  for (const field of model.get("fields")) {
    const option = made("option", "", `colour: ${field.label}`);
    option.value = field.name;
    colours.append(option);
  }
  head.append(title, button("← previous", () => turn(-1)), button("next →", () => turn(1)), colours);
  root.append(head, context, text, details);
  el.append(root);

  const episode = () => model.get("episodes")[model.get("episode")];

  function set(name, value) {
    model.set(name, value);
    model.save_changes();
  }

  function turn(by) {
    const count = model.get("episodes").length;
    model.set("position", -1);
    set("episode", (model.get("episode") + by + count) % count);
  }

  function drawEpisode() {
    title.textContent = episode().title;
    context.textContent = episode().context;
    text.replaceChildren(
      ...episode().tokens.map((token, place) => {
        const span = made("span", token.read ? "" : "rlhf-unread", token.text || "∅");
        span.setAttribute("role", "option");
        span.tabIndex = place ? -1 : 0; // one stop for Tab; the arrows go on from there
        for (const event of ["pointerenter", "focus", "click"]) {
          span.addEventListener(event, () => model.get("position") === place || set("position", place));
        }
        return span;
      }),
    );
    drawColours();
    drawToken();
  }

  function drawColours() {
    const name = model.get("colour");
    colours.value = name;
    [...text.children].forEach((span, place) => {
      span.style.background = episode().tokens[place].colours[name];
    });
    drawToken();
  }

  function drawToken() {
    const place = model.get("position");
    const token = episode().tokens[place];
    [...text.children].forEach((span, at) => span.setAttribute("aria-selected", String(at === place)));
    details.replaceChildren();
    const first = made("tr", "");
    first.append(made("th", "", token ? `token ${place}: ${seen(token.text)}` : "Point at a token."));
    details.append(first);
    for (const field of model.get("fields")) {
      const row = made("tr", field.name === model.get("colour") ? "rlhf-on" : "");
      row.append(made("td", "", field.label));
      row.append(made("td", "rlhf-number", token ? token.numbers[field.name] : "–"));
      row.append(made("td", "", field.about));
      details.append(row);
    }
    const row = made("tr", "");
    const read = token ? (token.read ? "yes" : "no: it stands after the cut") : "–";
    row.append(made("td", "", "read"), made("td", "", read), made("td", "", "by the reward model"));
    details.append(row);
  }

  text.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation(); // JupyterLab would move to another cell
    const count = text.children.length;
    text.children[(model.get("position") + by + count) % count].focus();
  });
  colours.addEventListener("change", () => set("colour", colours.value));
  const listens = { "change:episode": drawEpisode, "change:colour": drawColours, "change:position": drawToken };
  for (const [event, act] of Object.entries(listens)) model.on(event, act);
  drawEpisode();
  return () => {
    for (const [event, act] of Object.entries(listens)) model.off(event, act);
  };
}

export default { render };
