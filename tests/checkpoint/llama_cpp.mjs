// What llama.cpp makes of GGUF files. The arguments are a JSON file {texts, files, prompt, count} and one for the answer.
import {getLlama, LlamaLogLevel} from "node-llama-cpp";
import {readFileSync, writeFileSync} from "node:fs";

const {files, texts, prompt, count} = JSON.parse(readFileSync(process.argv[2], "utf8"));
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: 1});
const found = {};
for (const modelPath of files) {
    const model = await llama.loadModel({modelPath});
    const {tokens} = model;
    const context = await model.createContext({contextSize: 256, threads: 1});
    const chosen = [], shares = [];
    const steps = context.getSequence().evaluateWithMetadata(prompt, {confidence: true}, {temperature: 0});
    for await (const {token, confidence} of steps) {
        chosen.push(token);
        shares.push(confidence);
        if (chosen.length === count) break;
    }
    found[modelPath] = {
        ids: texts.map((text) => Array.from(model.tokenize(text, false))),
        chosen,
        shares,
        infill: [tokens.infill.prefix, tokens.infill.suffix, tokens.infill.middle],
        bos: tokens.bos,
        eos: tokens.eos,
        eot: tokens.eot,
        addsBos: tokens.shouldPrependBosToken,
        ends: [tokens.eos, tokens.eot].filter((id) => id != null && model.isEogToken(id)),
    };
    await context.dispose();
    await model.dispose();
}
writeFileSync(process.argv[3], JSON.stringify(found));
process.exit(0);
