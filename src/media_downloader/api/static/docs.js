"use strict";
// Shows openapi.json as a page on which every operation can be tried. Text only ever becomes text, never markup.

const make = (tag, attributes = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children.filter((child) => child !== null));
  return element;
};

const resolve = (api, schema) => {
  if (!schema) return {};
  if (schema.$ref) return resolve(api, schema.$ref.split("/").slice(1).reduce((found, key) => found[key], api));
  return schema;
};

/** An example body: what a person would start from. */
const example = (api, schema, depth = 0) => {
  const found = resolve(api, schema);
  if (depth > 4) return null;
  if (found.default !== undefined) return found.default;
  if (found.examples) return found.examples[0];
  if (found.anyOf) return example(api, found.anyOf[0], depth + 1);
  if (found.enum) return found.enum[0];
  if (found.type === "object") {
    const wanted = found.required ?? Object.keys(found.properties ?? {}).slice(0, 1);
    return Object.fromEntries(wanted.map((key) => [key, example(api, found.properties[key], depth + 1)]));
  }
  return { array: [], string: "", integer: 0, number: 0, boolean: false }[found.type] ?? null;
};

const shape = (api, schema) => {
  const found = resolve(api, schema);
  const rows = Object.entries(found.properties ?? {}).map(([name, property]) => {
    const inner = resolve(api, property);
    const options = (inner.anyOf ?? [inner]).map((one) => resolve(api, one));
    const types = options.map((one) => one.title && one.properties ? one.title : one.enum ? one.enum.join(" | ") : one.type ?? "").join(" or ");
    return make("tr", {}, make("td", { textContent: name }), make("td", { textContent: types }),
      make("td", { className: "said", textContent: property.description ?? inner.description ?? "" }));
  });
  return rows.length ? make("table", {}, ...rows) : null;
};

const field = (labelText, control) => [make("label", { textContent: labelText }, control)];

const show = async (response, out) => {
  const type = response.headers.get("content-type") ?? "";
  const head = `${response.status} ${response.statusText}\n${type}\n\n`;
  if (type.startsWith("text/event-stream")) {
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    out.textContent = head;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      out.textContent = (out.textContent + decoder.decode(value, { stream: true })).slice(-20000);
    }
  }
  if (type.includes("json")) out.textContent = head + JSON.stringify(await response.json(), null, 2);
  else if (type.startsWith("text/")) out.textContent = head + (await response.text()).slice(0, 20000);
  else { out.textContent = head + `${response.headers.get("content-length") ?? "?"} bytes`; await response.body?.cancel(); }
};

const operationView = (api, path, method, operation) => {
  const parameters = operation.parameters ?? [];
  const inputs = new Map(parameters.map((parameter) => [parameter, make("input", { autocomplete: "off", spellcheck: false })]));
  const bodySchema = operation.requestBody?.content?.["application/json"]?.schema;
  const body = bodySchema ? make("textarea", { spellcheck: false, value: JSON.stringify(example(api, bodySchema) ?? {}, null, 2) }) : null;
  const out = make("pre", { hidden: true });
  let running = null;
  const send = async () => {
    running?.abort();
    running = new AbortController();
    let url = path.slice(1);
    const query = new URLSearchParams();
    const headers = {};
    for (const [parameter, input] of inputs) {
      if (parameter.in === "path") url = url.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      else if (input.value && parameter.in === "query") query.append(parameter.name, input.value);
      else if (input.value) headers[parameter.name] = input.value;
    }
    if (body) headers["Content-Type"] = "application/json";
    out.hidden = false;
    out.textContent = "…";
    try {
      const address = query.size ? `${url}?${query}` : url;
      await show(await fetch(address, { method: method.toUpperCase(), headers, body: body?.value, signal: running.signal }), out);
    } catch (error) {
      if (error.name !== "AbortError") out.textContent = String(error);
    }
  };
  const answers = Object.entries(operation.responses).map(([status, answer]) =>
    make("tr", {}, make("td", { textContent: status }), make("td", { textContent: answer.description })));
  return make("details", {},
    make("summary", {}, make("span", { className: "method", textContent: method.toUpperCase() }),
      make("span", { className: "path", textContent: path }), make("span", { className: "said", textContent: operation.summary ?? "" })),
    make("div", { className: "body" },
      make("p", { textContent: operation.description ?? "" }),
      ...[...inputs].flatMap(([parameter, input]) =>
        field(`${parameter.name} (${parameter.in}${parameter.required ? ", required" : ""}) ${parameter.description ?? ""}`, input)),
      ...(body ? field("body (JSON)", body) : []), body ? shape(api, bodySchema) : null,
      make("button", { type: "button", textContent: "Send", onclick: send }),
      make("button", { type: "button", textContent: "Stop", onclick: () => running?.abort() }),
      out, make("table", {}, ...answers)));
};

const start = async () => {
  const api = await (await fetch("openapi.json")).json();
  const groups = new Map();
  for (const [path, operations] of Object.entries(api.paths))
    for (const [method, operation] of Object.entries(operations)) {
      const tag = operation.tags?.[0] ?? "other";
      groups.set(tag, [...(groups.get(tag) ?? []), operationView(api, path, method, operation)]);
    }
  document.getElementById("page").replaceChildren(
    make("h1", { textContent: api.info.title }),
    make("p", { className: "said", textContent: `Version ${api.info.version}` }),
    ...api.info.description.trim().split("\n\n").map((text) => make("p", { textContent: text.replaceAll("**", "").replaceAll("`", "") })),
    ...[...groups].flatMap(([tag, views]) => [make("h2", { textContent: tag }), ...views]));
};

start().catch((error) => { document.getElementById("page").textContent = String(error); });
