// llama.cpp's parallel mode: every sample a sequence of one context, decoded together in each batch.
//   request  {"ids": [...], "samples", "steps", "temperature", "top_p", "top_k", "seed"}    a line on standard input
//   answer   {"tokens": generated in all, "distinct": different texts}                      a line on standard output
// The prompt is read once; its state is copied to the other sequences, as llama-server does for `n`. End tokens do not end.
import {getLlama} from "node-llama-cpp";
import readline from "readline";

const [,, modelPath, threads, contextSize, sequences] = process.argv;
const llama = await getLlama({build: "never", gpu: false, logLevel: "error", maxThreads: +threads});
const model = await llama.loadModel({modelPath});
const context = await model.createContext({
  contextSize: +contextSize, sequences: +sequences, batchSize: 512, threads: +threads,
});
const all = Array.from({length: +sequences}, () => context.getSequence());

async function sample(sequence, last, request, seed) {
  const made = [];
  const options = {temperature: request.temperature, topP: request.top_p, topK: request.top_k, seed, yieldEogToken: true};
  for await (const token of sequence.evaluate([last], options)) {
    made.push(token);
    if (made.length >= request.steps) break;
  }
  return made;
}

console.log(JSON.stringify({ready: true}));
for await (const line of readline.createInterface({input: process.stdin})) {
  const request = JSON.parse(line);
  const used = all.slice(0, request.samples);
  for (const sequence of used) await sequence.clearHistory();
  const head = request.ids.slice(0, -1), last = request.ids.at(-1);
  await used[0].evaluateWithoutGeneratingNewTokens(head);
  for (const sequence of used.slice(1)) {
    if (!(await sequence._copyStateFromOtherSequence(used[0], head.length))) throw new Error("the prompt was not copied");
  }
  const texts = await Promise.all(used.map((sequence, place) => sample(sequence, last, request, request.seed + place)));
  const tokens = texts.reduce((sum, text) => sum + text.length, 0);
  console.log(JSON.stringify({tokens, distinct: new Set(texts.map(String)).size}));
}
process.exit(0);
