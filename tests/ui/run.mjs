#!/usr/bin/env node
// Opens every page of the web interface in a real browser: light and dark, wide and on a phone. Each is looked at with axe,
// nothing may be said on its console, refused by its content security policy, or fetched from elsewhere, and it may not be
// wider than its window. The last line is "N passed, N failed".
//
//   tests/ui/run.mjs --sluice target/debug/sluice [--photos DIR] [--only WORD] [--keep]
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { names, withoutScript } from "./bare.mjs";
import { printed } from "./print.mjs";
import { Service } from "./site.mjs";
import { dialogs, keys, tasks } from "./tasks.mjs";

const option = (name) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? undefined : process.argv[at + 1];
};
const binary = option("sluice") ?? "target/debug/sluice";
const photos = option("photos");
const only = option("only");
// Found through NODE_PATH, which only `require` looks at.
const require = createRequire(import.meta.url);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

// Who opens what: the name of the photograph, the role, the address.
const PAGES = [
  ["login", null, "/login"],
  ["overview", "staff", "/"],
  ["overview-restricted", "staff", "/?tab=restricted"],
  ["overview-drift", "staff", "/?tab=drift"],
  ["overview-all", "support", "/?tab=all&sort=-usage"],
  ["allocations", "staff", "/allocations"],
  ["allocations-none", "staff", "/allocations?q=nothing-has-this-name"],
  ["allocation", "staff", "/allocations/climate"],
  ["allocation-evaluations", "staff", "/allocations/climate?tab=evaluations"],
  ["allocation-commands", "staff", "/allocations/climate?tab=commands"],
  ["allocation-hold", "staff", "/allocations/mlvision?tab=holds"],
  ["allocation-users", "support", "/allocations/nlp?tab=users"],
  ["statement", "staff", "/allocations/climate/statement"],
  ["statement-before", "staff", "/allocations/climate/statement?period=2025-Q4"],
  ["statement-owner", "owner", "/allocations/climate/statement"],
  ["owner-list", "owner", "/"],
  ["owner", "owner", "/allocations/climate"],
  ["owner-normal", "owner", "/allocations/teaching"],
  ["owner-one", "one", "/allocations/robotics"],
  ["policies", "staff", "/policies"],
  ["policy", "support", "/policies/alpine-quarterly"],
  ["policy-commands", "staff", "/policies/alpine-quarterly?tab=commands"],
  ["policy-presets", "staff", "/policies/new"],
  ["policy-new", "staff", "/policies/new?preset=monthly-strict"],
  ["policy-edit", "staff", "/policies/alpine-quarterly/edit"],
  ["policy-versions", "support", "/policies/alpine-quarterly/versions"],
  ["policy-disable", "staff", "/policies/alpine-quarterly/disable"],
  ["evaluate", "staff", "/policies/alpine-quarterly/evaluate"],
  ["evaluate-changed", "staff", "/policies/alpine-quarterly/evaluate?grace=15&warn=75"],
  ["limit", "staff", "/allocations/genomics/limit"],
  ["hold", "staff", "/allocations/genomics/hold"],
  ["commands", "staff", "/commands"],
  ["commands-failed", "support", "/commands?status=failed&from=2026-03-01"],
  ["commands-none", "staff", "/commands?status=queued&type=reset_usage&to=2026-01-01"],
  ["commands-dead", "staff", "/commands?tab=dead"],
  ["commands-agents", "staff", "/commands?tab=agents"],
  ["commands-accounts", "support", "/commands?tab=accounts"],
  ["dispatch", "staff", (service) => `/commands/${service.dispatches.get("climate")}`],
  ["dispatch-failed", "staff", (service) => `/commands/${service.dispatches.get("seismo")}`],
  ["dispatch-own", "owner", (service) => `/commands/${service.dispatches.get("climate")}`],
  ["resend", "staff", (service) => `/commands/${service.dispatches.get("seismo")}/resend`],
  ["agent", "support", (service) => `/agents/${service.agent}`],
  ["events", "staff", "/events"],
  ["events-chosen", "support", (service) => `/events?at=${service.slowed}`],
  ["events-flat", "staff", "/events?view=flat&type=restriction_changed"],
  ["events-unfolded", "staff", "/events?folded=no&actor=agent"],
  ["events-none", "staff", "/events?type=notice_failed&to=2026-01-02"],
  ["event", "support", (service) => `/events/${service.slowed}`],
  ["event-envelope", "staff", (service) => `/events/${service.slowed}?tab=envelope`],
  ["timeline", "staff", "/timeline"],
  ["timeline-march", "support", "/timeline?from=2026-03-01&to=2026-03-31"],
  ["system-jobs", "staff", "/system"],
  ["system-consumers", "support", "/system/consumers"],
  ["system-notices", "staff", "/system/notices"],
  ["system-holds", "staff", "/system/holds"],
  ["system-tokens", "staff", "/system/tokens"],
  ["system-token", "staff", "/system/tokens/new"],
  ["system-retention", "support", "/system/retention"],
  ["system-settings", "staff", "/system/settings"],
  ["system-setting", "staff", "/system/settings/dispatch_window"],
  ["sessions", "staff", "/sessions"],
  ["not-found", "staff", "/allocations/there-is-none"],
];

let passed = 0;
const failures = [];
const check = (name, problems) => {
  if (problems.length) failures.push(...problems.map((problem) => `${name}: ${problem}`));
  else passed++;
};

async function signIn(context, key) {
  const page = await context.newPage();
  await page.goto("/login");
  await page.fill("#token", key);
  await page.click("button.primary");
  await page.waitForURL((url) => !url.pathname.startsWith("/login"));
  await page.close();
}

async function look(service, browser, theme, width) {
  const contexts = new Map();
  const context = async (role) => {
    if (!contexts.has(role)) {
      const made = await browser.newContext({ baseURL: service.base, colorScheme: theme, viewport: { width, height: width > 600 ? 900 : 844 }, reducedMotion: "reduce" });
      if (role) await signIn(made, service.keys[role]);
      contexts.set(role, made);
    }
    return contexts.get(role);
  };
  for (const [name, role, address] of PAGES.filter(([name]) => !only || name.includes(only))) {
    const problems = [];
    const page = await (await context(role)).newPage();
    page.on("console", (message) => problems.push(`console: ${message.text()}`));
    page.on("pageerror", (error) => problems.push(`script: ${error.message}`));
    page.on("request", (request) => {
      const url = new URL(request.url());
      if (url.origin !== service.base && url.protocol !== "data:") problems.push(`foreign request: ${request.url()}`);
    });
    const answer = await page.goto(typeof address === "function" ? address(service) : address, { waitUntil: "networkidle" });
    const wanted = name === "not-found" ? 404 : 200;
    if (answer.status() !== wanted) problems.push(`status ${answer.status()}`);
    // A page of a status that is meant says so on the console.
    const said = problems.filter((problem) => !(wanted === 404 && problem.includes("404")));
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (wide > 0) said.push(`${wide} pixels wider than its window`);
    // Nobody looks for a column that lies outside its panel. The chart's table twin is as long and as wide as it is.
    const cut = await page.evaluate(() => [...document.querySelectorAll(".scroll:not(.tall)")].filter((box) => box.scrollWidth > box.clientWidth + 1).map((box) => `${box.querySelector("caption")?.textContent}, ${box.scrollWidth - box.clientWidth} pixels`));
    for (const table of cut) said.push(`columns are cut off: ${table}`);
    await page.evaluate(axe);
    const found = await page.evaluate((tags) => window.axe.run(document, { runOnly: { type: "tag", values: tags } }), RULES);
    for (const violation of found.violations) said.push(`axe ${violation.id}: ${violation.nodes.map((node) => `${node.target} ${node.any[0]?.message ?? ""}`).slice(0, 3).join("; ")}`);
    if (photos) await page.screenshot({ path: join(photos, `${name}-${width}-${theme}.png`) });
    if (photos && width === 390 && theme === "light") await page.screenshot({ path: join(photos, `${name}-${width}-whole.png`), fullPage: true });
    check(`${name} ${theme} ${width}`, said);
    await page.close();
  }
  for (const made of contexts.values()) await made.close();
}

// What people do with the pages, after all of them were looked at: it changes what they show.
async function use() {
  if (only && only !== "tasks") return;
  const signed = async (role, options) => {
    const context = await browser.newContext({ baseURL: service.base, reducedMotion: "reduce", viewport: { width: 1440, height: 900 }, ...options });
    await signIn(context, service.keys[role]);
    return context;
  };
  const staff = await signed("staff");
  await printed(staff, photos, check);
  await keys(staff, check);
  await dialogs(staff, check);
  // Before the rules are changed: then every account is told anew, and nothing is left that failed.
  await tasks(staff, check);
  await withoutScript(browser, service.base, service.keys.staff, check);
  await names(service, staff, 1440, check);
  const phone = await signed("staff", { viewport: { width: 390, height: 844 } });
  await names(service, phone, 390, check);
  for (const context of [staff, phone]) await context.close();
}

const service = new Service(binary);
let browser;
try {
  await service.start();
  await service.play();
  if (photos) mkdirSync(photos, { recursive: true });
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--font-render-hinting=none"] });
  for (const theme of ["light", "dark"]) for (const width of [1440, 390]) await look(service, browser, theme, width);
  await use();
  if (process.argv.includes("--keep")) {
    console.log(`${service.base} in ${service.folder}; Ctrl-C ends it`);
    await new Promise(() => {});
  }
} catch (error) {
  failures.push(error.stack);
} finally {
  await browser?.close();
  service.stop();
}
for (const failure of failures) console.log(failure);
console.log(`${passed} passed, ${failures.length} failed`);
process.exitCode = failures.length ? 1 : 0;
