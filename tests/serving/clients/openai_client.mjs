// OpenAI's own JavaScript client: a middle, whole and streamed, and a chat. Prints what came as one line of JSON.
import OpenAI from "openai";

const [url, prompt, suffix] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const options = { model: "x", prompt, suffix, max_tokens: 10, temperature: 0 };
const whole = await client.completions.create(options);
let streamed = "";
for await (const chunk of await client.completions.create({ ...options, stream: true })) {
  streamed += chunk.choices[0]?.text ?? "";
}
const messages = [{ role: "user", content: "Say something." }];
const chat = await client.chat.completions.create({ model: "x", messages, max_tokens: 10, temperature: 0 });
console.log(JSON.stringify({ whole: whole.choices[0].text, streamed, chat: chat.choices[0].message.content }));
