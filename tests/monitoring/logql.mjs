// Reads LogQL expressions as a list of JSON on standard input, and prints those that cannot be parsed.
import { parser } from "@grafana/lezer-logql";

let text = "";
for await (const chunk of process.stdin) text += chunk;

const broken = JSON.parse(text).filter((expression) => {
  let isBroken = false;
  parser.parse(expression).iterate({ enter: (node) => void (isBroken ||= node.type.isError) });
  return isBroken;
});
console.log(JSON.stringify(broken));
