// Scores the rows beside each ONNX file in a folder, in onnxruntime-node.
// usage: node answer.mjs FOLDER
// Prints one JSON object: of each model the largest difference from the logits that are expected, of max(1, |logit|).
import fs from "node:fs";
import path from "node:path";
import ort from "onnxruntime-node";

const made = {
  float32: (values) => Float32Array.from(values, (value) => (value === null ? NaN : value)),
  int64: (values) => BigInt64Array.from(values, BigInt),
  string: (values) => values,
};

async function difference(folder) {
  const asked = JSON.parse(fs.readFileSync(path.join(folder, "asked.json"), "utf8"));
  const session = await ort.InferenceSession.create(path.join(folder, "model.onnx"), { logSeverityLevel: 3 });
  const feeds = {};
  for (const name of session.inputNames) {
    const { dtype, shape, values } = asked.rows[name];
    feeds[name] = new ort.Tensor(dtype, made[dtype](values), shape);
  }
  const { logit } = await session.run(feeds);
  const gaps = asked.logits.map((wanted, row) => Math.abs(logit.data[row] - wanted) / Math.max(1, Math.abs(wanted)));
  return gaps.some(Number.isNaN) ? 1e9 : Math.max(...gaps); // JSON knows no NaN
}

const [folder] = process.argv.slice(2);
const found = {};
for (const name of fs.readdirSync(folder).sort()) {
  found[name] = await difference(path.join(folder, name));
}
console.log(JSON.stringify(found));
