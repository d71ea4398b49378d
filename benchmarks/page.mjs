// Looks at a page of adprune-report in a browser, wide and as on a phone, light and dark, and printed.
//
//     npm install playwright-core axe-core          # in a folder of your own, from which you then run
//     node benchmarks/page.mjs runs/digits/report/index.html [FOLDER FOR PICTURES]
//
// Needs Chromium (Debian: apt-get install chromium; another: CHROMIUM=/path). Exit status 1 where the
// page asks for anything but itself, says something on the console, scrolls sideways, has an id twice, or
// where axe-core finds fault with it.

import { createRequire } from "node:module";
import { mkdirSync } from "node:fs";
import { resolve, join } from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(join(process.cwd(), "here.js"));
const { chromium } = require("playwright-core");
const axe = require.resolve("axe-core/axe.min.js");
const [page_, pictures] = process.argv.slice(2);
if (!page_) throw new Error("Usage: node page.mjs PAGE.html [FOLDER FOR PICTURES]");
const address = pathToFileURL(resolve(page_)).href;
if (pictures) mkdirSync(pictures, { recursive: true });

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
let faults = 0;
const fault = (where, what) => { faults += 1; console.log(`${where}: ${what}`); };
const sizes = { wide: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } };
for (const [name, viewport] of Object.entries(sizes)) {
  for (const colorScheme of ["light", "dark"]) {
    const where = `${name} ${colorScheme}`;
    // axe-core is a script, which the page's own policy forbids.
    const context = await browser.newContext({
      viewport, colorScheme, bypassCSP: true, deviceScaleFactor: name === "phone" ? 2 : 1,
    });
    const page = await context.newPage();
    page.on("console", (message) => fault(where, `console: ${message.text()}`));
    page.on("pageerror", (error) => fault(where, `error: ${error}`));
    page.on("request", (request) => {
      const url = request.url();
      if (url !== address && !url.startsWith("data:")) fault(where, `asks for ${url}`);
    });
    await page.goto(address);
    if (pictures) await page.screenshot({ path: join(pictures, `${name}-${colorScheme}.png`), fullPage: true });
    const [across, ids] = await page.evaluate(() => [
      document.documentElement.scrollWidth - innerWidth,
      [...document.querySelectorAll("[id]")].map((element) => element.id),
    ]);
    if (across > 0) fault(where, `the page is ${across} px too wide`);
    const twice = ids.filter((id, i) => ids.indexOf(id) !== i);
    if (twice.length) fault(where, `ids twice: ${[...new Set(twice)]}`);
    for (const details of await page.$$("details")) await details.evaluate((d) => { d.open = true; });
    await page.addScriptTag({ path: axe });
    const { violations, passes } = await page.evaluate(() => axe.run());
    for (const v of violations) fault(where, `axe: ${v.id}: ${v.help}: ${v.nodes.map((n) => n.target).slice(0, 3)}`);
    console.log(`${where}: ${passes.length} rules of axe-core hold, ${violations.length} do not`);
    await context.close();
  }
}
const page = await (await browser.newContext()).newPage();
await page.goto(address);
const pdf = await page.pdf({ format: "A4", ...(pictures && { path: join(pictures, "print.pdf") }) });
console.log(`print: ${pdf.length} bytes`);
await browser.close();
process.exit(faults ? 1 : 0);
