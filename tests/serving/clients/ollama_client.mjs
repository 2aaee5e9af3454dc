// Ollama's own JavaScript client: a middle, whole and streamed, and a chat. Prints what came as one line of JSON.
import { Ollama } from "ollama";

const [host, prompt, suffix] = process.argv.slice(2);
const client = new Ollama({ host });
const options = { temperature: 0, num_predict: 10 };
const whole = await client.generate({ model: "x", prompt, suffix, options });
let streamed = "";
for await (const part of await client.generate({ model: "x", prompt, suffix, options, stream: true })) {
  streamed += part.response;
}
const messages = [{ role: "user", content: "Say something." }];
const chat = await client.chat({ model: "x", messages, options });
console.log(JSON.stringify({ whole: whole.response, streamed, chat: chat.message.content }));
