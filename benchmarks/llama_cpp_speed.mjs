// llama.cpp as a peer: answers lines {"prompt": ids, "tokens": n} with {"first_s", "rest_s", "tokens"}.
// Arguments: a GGUF file, the number of threads.
import {getLlama, LlamaLogLevel} from "node-llama-cpp";
import {createInterface} from "node:readline";

const [modelPath, threads] = process.argv.slice(2);
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: +threads});
const model = await llama.loadModel({modelPath});
const context = await model.createContext({contextSize: 2048, batchSize: 512, threads: +threads});
const sequence = context.getSequence();
console.log(JSON.stringify({ready: true}));
for await (const line of createInterface({input: process.stdin})) {
    const {prompt, tokens} = JSON.parse(line);
    await sequence.clearHistory();
    const began = performance.now();
    let first = 0, made = 0;
    for await (const _ of sequence.evaluate(prompt, {temperature: 0, yieldEogToken: true})) {
        if (++made === 1) first = performance.now();
        if (made >= tokens) break;
    }
    const rest = performance.now() - first;
    console.log(JSON.stringify({first_s: (first - began) / 1000, rest_s: rest / 1000, tokens: made}));
}
process.exit(0);
