// llama.cpp's engine at a cursor: one request a line on standard input, one answer a line on standard output.
//   request  {"mode": "prefix" | "chunks", "ids": [...]}
//   answer   {"seconds": until the first token, "token": its id, "evaluated": tokens of the prompt that were computed}
// prefix: the common beginning of the cached ids and the prompt is kept, the rest erased (`cache_prompt`).
// chunks: behind it, runs of at least 256 equal ids further on in the cache are shifted to where the prompt goes on
//         (llama-server's `n_cache_reuse`, its algorithm).
import {getLlama} from "node-llama-cpp";
import readline from "readline";

const [,, modelPath, threads, contextSize] = process.argv;
const CHUNK = 256;
const llama = await getLlama({build: "never", gpu: false, logLevel: "error", maxThreads: +threads});
const model = await llama.loadModel({modelPath});
const sequences = {};
for (const mode of ["prefix", "chunks"]) {
  const context = await model.createContext({contextSize: +contextSize, batchSize: +contextSize, threads: +threads});
  sequences[mode] = context.getSequence();
}

/** Ranges of the cache to erase, and how many of the prompt's ids are then held. */
function plan(cache, ids, mode) {
  let held = 0;
  while (held < cache.length && held < ids.length - 1 && cache[held] === ids[held]) held++;
  const erased = [];
  let from = held;
  if (mode === "chunks") {
    let at = held;
    while (at < cache.length && held < ids.length - 1) {
      let length = 0;
      while (at + length < cache.length && held + length < ids.length - 1 && cache[at + length] === ids[held + length]) length++;
      if (length >= CHUNK) {
        if (at > from) erased.push({start: from, end: at});
        held += length;
        at += length;
        from = at;
      } else at++;
    }
  }
  if (from < cache.length) erased.push({start: from, end: cache.length});
  return {erased, held};
}

console.log(JSON.stringify({ready: true}));
for await (const line of readline.createInterface({input: process.stdin})) {
  const {mode, ids} = JSON.parse(line);
  const sequence = sequences[mode];
  const began = performance.now();
  const {erased, held} = plan(sequence.contextTokens, ids, mode);
  if (erased.length) await sequence.eraseContextTokenRanges(erased);
  const evaluated = ids.length - sequence.nextTokenIndex;
  let first = null;
  for await (const token of sequence.evaluate(ids.slice(sequence.nextTokenIndex), {temperature: 0, yieldEogToken: true})) {
    first = token;
    break;
  }
  const seconds = (performance.now() - began) / 1000;
  if (ids.length - held !== evaluated) throw new Error(`planned to keep ${held} ids, kept ${ids.length - evaluated}`);
  console.log(JSON.stringify({seconds, token: first, evaluated}));
}
process.exit(0);
