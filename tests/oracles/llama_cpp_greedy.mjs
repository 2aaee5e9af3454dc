import {getLlama, LlamaCompletion} from "node-llama-cpp";
import fs from "fs";
const [,, modelPath, promptsPath, steps] = process.argv;
const llama = await getLlama({build: "never", gpu: false, logLevel: "error"});
const model = await llama.loadModel({modelPath});
const prompts = JSON.parse(fs.readFileSync(promptsPath, "utf8"));
const context = await model.createContext({contextSize: 2048, threads: 1});
const out = [];
for (const ids of prompts) {
  const sequence = context.getSequence();
  await sequence.clearHistory();
  const got = [];
  for await (const token of sequence.evaluate(ids, {temperature: 0})) { got.push(token); if (got.length >= +steps) break; }
  out.push(got);
  sequence.dispose();
}
console.log(JSON.stringify(out));
process.exit(0);
