// npm ci && npm run build: writes ../assets/codemirror.js and ../assets/codemirror.LICENCES.txt.
import { build } from "esbuild";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";

const result = await build({
  entryPoints: ["entry.js"],
  bundle: true,
  format: "esm",
  minify: true,
  target: "es2022",
  legalComments: "none",
  metafile: true,
  write: false,
});

const names = new Set();
for (const path of Object.keys(result.metafile.inputs)) {
  const found = path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)\//);
  if (found) names.add(found[1]);
}

const parts = [...names].sort().map((name) => {
  const folder = `node_modules/${name}`;
  const { version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
  if (!file) throw new Error(`${name} has no licence file`);
  return { title: `${name} ${version} (${license})`, text: readFileSync(`${folder}/${file}`, "utf8").trim() };
});

const told = parts.map(({ title }) => ` * ${title}`).join("\n");
const head = `/* Made by codemirror/build.mjs of these, whose licences are in codemirror.LICENCES.txt:\n${told}\n */\n`;
writeFileSync("../assets/codemirror.js", head + result.outputFiles[0].text);
const licences = parts.map(({ title, text }) => `${title}\n${"-".repeat(title.length)}\n${text}\n`).join("\n\n");
writeFileSync("../assets/codemirror.LICENCES.txt", licences);
