/* Builds a condition of several: groups (all, any), leaves that are small forms, and "not" before each of them. It keeps
   what was typed, and writes the whole into the field `built` as JSON. Used by the form of a rule. */
"use strict";
{
  const WORDS = { all: "all of these hold", any: "at least one of these holds" };

  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key in element && typeof value !== "string") {
        element[key] = value;
      } else {
        element.setAttribute(key, value);
      }
    }
    element.append(...children);
    return element;
  };

  const newLeaf = (values = {}) => ({ nots: 0, kind: values.kind ?? "", values: { ...values } });
  const newGroup = (word, members) => ({ nots: 0, word, members });

  /* tree: as it is written, {all: […]}, {not: …} or {kind: …}. */
  const nodeOf = (tree) => {
    if ("not" in tree) {
      const node = nodeOf(tree.not);
      return { ...node, nots: node.nots + 1 };
    }
    const word = Object.keys(WORDS).find((one) => one in tree);
    return word ? newGroup(word, tree[word].map(nodeOf)) : newLeaf(tree);
  };

  const leavesIn = (node) => (node.word ? node.members.reduce((sum, one) => sum + leavesIn(one), 0) : 1);

  /* classes: of an input, a select and a button of this form; changed: called after each change. */
  const begin = ({ parts, classes, changed }) => {
    const element = make("div", { class: "builder" });
    let root = null;
    let shown = [];
    let focusOn = null;

    const namesOf = (kind) => Object.keys(parts.parameters).filter((name) => parts.parameters[name].kinds.includes(kind));

    // A condition that is no group is shown in one, which is written once it has a second member.
    const isLoose = (node) => Boolean(node.isWrapped) && node.members.length === 1 && node.nots === 0;

    const treeOf = (node) => {
      if (isLoose(node)) {
        return treeOf(node.members[0]);
      }
      let tree = node.word ? { [node.word]: node.members.map(treeOf) } : { kind: node.kind };
      if (!node.word) {
        for (const name of namesOf(node.kind)) {
          if (node.values[name]) {
            tree[name] = node.values[name];
          }
        }
      }
      for (let count = 0; count < node.nots; count += 1) {
        tree = { not: tree };
      }
      return tree;
    };

    const button = (text, label, act, isDisabled = false) => {
      const one = make("button", { type: "button", class: classes.button, "aria-label": label, disabled: isDisabled }, text);
      one.addEventListener("click", () => {
        act();
        render();
        changed();
      });
      return one;
    };

    const notBox = (node, name) => {
      const box = make("input", { type: "checkbox", "aria-label": `not: ${name}`, checked: node.nots > 0 });
      box.addEventListener("change", () => {
        node.nots = box.checked ? 1 : 0;
        focusOn = { node, part: "not" };
        render();
        changed();
      });
      shown.push({ node, part: "not", control: box });
      return make("label", { class: "builder-not" }, box, node.nots > 1 ? `not (${node.nots} times)` : "not");
    };

    const kindSelect = (node, name) => {
      const select = make("select", { class: classes.select, "aria-label": `${name}: the price` });
      select.append(make("option", { value: "" }, "choose one"));
      for (const [group, pairs] of parts.kinds) {
        const options = pairs.map(([value, text]) => make("option", { value, selected: value === node.kind }, text));
        select.append(make("optgroup", { label: group }, ...options));
      }
      select.addEventListener("change", () => {
        node.kind = select.value;
        focusOn = { node, part: "kind" };
        render();
        changed();
      });
      return select;
    };

    const parameterField = (node, name, label, path) => {
      const { label: text, choices } = parts.parameters[name];
      let input;
      if (choices.length) {
        input = make("select", { class: classes.select });
        input.append(...choices.map(([value, say]) => make("option", { value, selected: value === node.values[name] }, say)));
        node.values[name] = input.value;
      } else {
        input = make("input", { type: "text", class: classes.input, autocomplete: "off", maxlength: "64" });
        input.value = node.values[name] ?? "";
      }
      input.setAttribute("aria-label", `${label}: ${text}`);
      input.addEventListener("input", () => {
        node.values[name] = input.value;
      });
      input.addEventListener("change", () => {
        node.touched = (node.touched ?? new Set()).add(name);
      });
      const note = make("span", { class: "form-note", "aria-live": "polite" });
      shown.push({ node, part: name, control: input, note, path: path ? `${path}.${name}` : name });
      return make("label", { class: "builder-field" }, make("span", {}, text), input, note);
    };

    const renderLeaf = (node, path, label, remove) => {
      const select = kindSelect(node, label);
      const note = make("span", { class: "form-note", "aria-live": "polite" });
      shown.push({ node, part: "kind", control: select, note, path: path ? `${path}.kind` : "kind" });
      const names = namesOf(node.kind);
      const fields = (isMore) =>
        names.filter((name) => parts.parameters[name].is_more === isMore).map((name) => parameterField(node, name, label, path));
      const row = make(
        "div",
        { class: "builder-row" },
        notBox(node, label),
        make("label", { class: "builder-field builder-kind" }, make("span", {}, "The price"), select, note),
        ...fields(false),
        ...remove,
      );
      const leaf = make("div", { class: "builder-leaf", role: "group", "aria-label": label }, row);
      const more = fields(true);
      if (more.length) {
        const details = make("details", { open: Boolean(node.isOpen) }, make("summary", {}, "More"), make("div", { class: "builder-row" }, ...more));
        details.addEventListener("toggle", () => {
          node.isOpen = details.open;
        });
        leaf.append(details);
      }
      return leaf;
    };

    const renderGroup = (node, path, label, depth, remove) => {
      const select = make("select", { class: classes.select, "aria-label": `${label}: holds when` });
      select.append(...Object.entries(WORDS).map(([value, text]) => make("option", { value, selected: value === node.word }, text)));
      select.addEventListener("change", () => {
        node.word = select.value;
        focusOn = { node, part: "word" };
        render();
        changed();
      });
      shown.push({ node, part: "word", control: select });
      const within = path ? `${path}.${node.word}` : node.word;
      const members = node.members.map((member, index) =>
        make("li", {}, renderNode(member, isLoose(node) ? path : `${within}[${index}]`, `${label}.${index + 1}`, depth + 1, () => {
          node.members.splice(index, 1);
          focusOn = { node, part: "add" };
        })),
      );
      const isFull = leavesIn(root) >= parts.leaves;
      const add = (text, made, isDisabled) =>
        button(text, `${text} to ${label}`, () => {
          const one = made();
          node.members.push(one);
          focusOn = { node: one.word ? one.members[0] : one, part: "kind" };
        }, isDisabled);
      const addLeaf = add("Add condition", newLeaf, isFull || depth + 1 > parts.depth);
      shown.push({ node, part: "add", control: addLeaf });
      const addGroup = add("Add group", () => newGroup(node.word === "all" ? "any" : "all", [newLeaf()]), isFull || depth + 2 > parts.depth);
      return make(
        "div",
        { class: "builder-group", role: "group", "aria-label": label },
        make("div", { class: "builder-row" }, notBox(node, label), make("label", { class: "builder-field builder-kind" }, make("span", {}, "Holds when"), select), ...remove),
        make("ol", {}, ...members),
        make("div", { class: "builder-row" }, addLeaf, addGroup),
      );
    };

    const renderNode = (node, path, label, depth, taken) => {
      const here = path + (path && node.nots ? "." : "") + Array(node.nots).fill("not").join(".");
      const remove = taken ? [button("Remove", `Remove ${label}`, taken)] : [];
      return node.word
        ? renderGroup(node, here, label, depth + node.nots, remove)
        : renderLeaf(node, here, label, remove);
    };

    const render = () => {
      shown = [];
      if (!root.word) {
        root = { ...newGroup("all", [root]), isWrapped: true };
      }
      element.replaceChildren(renderNode(root, "", "Condition", 1, null));
      const found = focusOn && shown.find((one) => one.node === focusOn.node && one.part === focusOn.part);
      focusOn = null;
      found?.control.focus();
    };

    return {
      element,
      tree: () => (root ? treeOf(root) : null),
      show: (tree) => {
        root = nodeOf(tree);
        render();
      },
      /* Begins with one leaf that has been filled in already, and a second beside it. */
      combine: (values) => {
        root = newGroup("all", [newLeaf(values), newLeaf()]);
        render();
      },
      /* Says beside each part how it was read, or what is wrong with it once it was touched. Returns the other errors. */
      say: (errors, read, isAllTouched) => {
        const left = new Set(errors);
        for (const { node, part, control, note, path } of shown.filter((one) => one.note)) {
          const error = errors.find((one) => one.path === path);
          const isTouched = isAllTouched || node.touched?.has(part);
          const text = read.find((one) => one.path === path)?.text ?? "";
          note.textContent = error && isTouched ? error.message.replace(path, parts.parameters[part]?.label ?? "It") : text;
          note.classList.toggle("is-wrong", Boolean(error && isTouched));
          control.setAttribute("aria-invalid", String(Boolean(error && isTouched)));
          if (error) {
            left.delete(error);
          }
        }
        return [...left];
      },
    };
  };

  window.ruleBuilder = { begin };
}
