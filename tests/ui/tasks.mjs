// The tasks that people come for, from the overview: done with the mouse, where every click is counted, and again with the
// keyboard alone. Each step is done in the same way in both: whatever is pressed is first reached.
const act = (selector) => ({ act: selector });
const type = (selector, text) => ({ type: selector, text });
const see = (selector, text) => ({ see: selector, text });

const ROW = "#rows tbody tr:first-of-type th a";
// What was put on hold last stands first among what has changed: it is not at risk any more.
const HELD = '.fact .nowrap:has(use[href$="#lock"]) a';

// What it is, how many clicks it may take, the steps, and whether it is done with the mouse only.
export const TASKS = [
  ["who is restricted next", 0, [see("#rows tbody tr:first-of-type", "in ")]],
  ["why it stands as it does, and when it ends", 1, [act(ROW), see(".why .terms", "May use"), see("#heading-title", "Where it is heading")]],
  ["the evaluation behind it, with its inputs", 2, [act(ROW), act('#tabs a[href*="tab=evaluations"]'), see("#tabs .lines", "node_hours")]],
  ["follow a command to its confirmation", 2, [act(ROW), act('#tabs a[href*="tab=commands"]'), see("#tabs .lines", "sacctmgr"), see("#tabs .lines", "Confirmed")]],
  ["place a hold", 3, [act(ROW), act('.actions a[href$="/hold"]'), type("dialog [name=reason]", "Asked for by the owner"), act("dialog button.primary"), see("#tabs", "Asked for by the owner")]],
  ["release a hold", 3, [act(HELD), act('#tabs a[href*="tab=holds"]'), act("#tabs form[action$='/release'] button"), see("#tabs", "No hold is in force")]],
  ["change a limit, seeing the effect first", 3, [act(ROW), act('.actions a[href$="/limit"]'), type("dialog [name^=limit-]", "4321"), see("dialog #limit-preview", "4,321.00"), act("dialog .dialog-foot button.primary"), see(".figures", "4,321")]],
  ["try a policy out", 3, [act('.side a[href="/policies"]'), act("table[data-rows] tbody a"), act('.actions a[href$="/evaluate"]'), see("dialog .banner", "Nothing has been changed or recorded")]],
  ["evaluate a policy now", 4, [act('.side a[href="/policies"]'), act("table[data-rows] tbody a"), act('.actions a[href$="/evaluate"]'), act("dialog button.primary"), see("dialog .banner", "The evaluation is recorded")]],
  // There is one message that failed, and it can be sent again once.
  ["send a failed command again", 3, [act('.needs a[href^="/commands/"]'), act('.actions a[href$="/resend"]'), type("dialog [name=reason]", "The account was created"), act("dialog button.primary"), see("h1", "Commands for seismo")], "mouse"],
  ["verify an event", 2, [act('.side a[href="/events"]'), act(".episodes ol li:nth-of-type(2) a"), see(".check", "Payload matches its commitment")]],
  ["make a policy from a preset", 4, [act('.side a[href="/policies"]'), act('.actions a[href="/policies/new"]'), act('a[href$="preset=tracking-only"]'), type("#slug", "SLUG"), act("#outcome button.primary"), see("h1", "SLUG")]],
];

// Tab until the element has the focus, as somebody without a mouse does; says what was wrong on the way.
async function reach(page, selector) {
  const wanted = page.locator(selector).first();
  await wanted.waitFor();
  for (let pressed = 0; pressed < 400; pressed++) {
    if (await wanted.evaluate((element) => element === document.activeElement)) return pressed;
    await page.keyboard.press("Tab");
  }
  throw new Error(`${selector} cannot be reached with the keyboard`);
}

// What has the focus can be seen: it has an outline and nothing lies over it.
const seen = (page) =>
  page.evaluate(() => {
    const element = document.activeElement;
    const box = element.getBoundingClientRect();
    const at = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
    const hidden = at && at !== element && !element.contains(at) && !at.contains(element) && !element.labels?.length;
    const outlined = getComputedStyle(element).outlineStyle !== "none" || element.matches("input, select, textarea");
    return hidden ? `something lies over ${element.outerHTML.slice(0, 80)}` : outlined ? "" : `no outline on ${element.outerHTML.slice(0, 80)}`;
  });

async function fill(page, selector, text, keyboard) {
  const field = page.locator(selector).first();
  if (!keyboard) return field.fill(text);
  await reach(page, selector);
  await page.keyboard.press("Control+A");
  await page.keyboard.type(text);
}

// One task; the number of clicks, or of presses of Enter.
async function done(page, steps, keyboard, slug) {
  let clicks = 0;
  await page.goto("/");
  for (const step of steps) {
    if (step.act) {
      clicks++;
      const selector = step.act;
      if (!keyboard) await page.locator(selector).first().click();
      else {
        await reach(page, selector);
        const wrong = await seen(page);
        if (wrong) throw new Error(wrong);
        await page.keyboard.press("Enter");
      }
    } else if (step.type) await fill(page, step.type, step.text.replace("SLUG", slug), keyboard);
    else await page.locator(step.see).filter({ hasText: step.text.replace("SLUG", slug) }).first().waitFor({ timeout: 10_000 });
  }
  return clicks;
}

// All tasks with the mouse, then with the keyboard; one line each for the table of clicks.
export async function tasks(context, check) {
  const table = [];
  for (const keyboard of [false, true]) {
    for (const [name, most, steps, only] of TASKS) {
      if (only === "mouse" && keyboard) continue;
      const page = await context.newPage();
      const problems = [];
      try {
        const clicks = await done(page, steps, keyboard, keyboard ? "tracking-keys" : "tracking-mouse");
        if (clicks > most) problems.push(`${clicks} clicks, not ${most}`);
        if (!keyboard) table.push([name, clicks]);
      } catch (error) {
        problems.push(error.message.split("\n")[0]);
      }
      check(`${name}, ${keyboard ? "keyboard" : "mouse"}`, problems);
      await page.close();
    }
  }
  console.log(`clicks from the overview: ${table.map(([name, clicks]) => `${name} ${clicks}`).join("; ")}`);
}

// A dialog keeps the focus in itself and gives it back.
export async function dialogs(context, check) {
  const page = await context.newPage();
  const problems = [];
  await page.goto("/policies/alpine-quarterly");
  const link = '.actions a[href$="/disable"]';
  await reach(page, link);
  await page.keyboard.press("Enter");
  await page.locator("dialog[open]").waitFor();
  for (let pressed = 0; pressed < 30; pressed++) {
    await page.keyboard.press("Tab");
    const inside = await page.evaluate(() => document.activeElement === document.body || !!document.activeElement.closest("dialog"));
    if (!inside) problems.push("the focus leaves the dialog");
  }
  const button = page.locator("dialog button.primary");
  if (!(await button.isDisabled())) problems.push("the act can be done without a reason");
  await page.keyboard.press("Escape");
  await page.locator("dialog[open]").waitFor({ state: "detached" });
  if (!(await page.locator(link).evaluate((element) => element === document.activeElement))) problems.push("the focus does not come back");
  check("a dialog keeps the focus and gives it back", problems);
  await page.close();
}

// Keys of the interface: go somewhere, search, move in a table.
export async function keys(context, check) {
  const page = await context.newPage();
  const problems = [];
  await page.goto("/");
  await page.keyboard.press("g");
  await page.keyboard.press("p");
  await page.waitForURL("**/policies").catch(() => problems.push("g p does not lead to the policies"));
  await page.keyboard.press("/");
  if (!(await page.evaluate(() => document.activeElement.matches(".search input")))) problems.push("/ does not lead to the search");
  await page.keyboard.type("climate");
  await page.keyboard.press("Enter");
  await page.waitForURL("**/allocations?q=climate").catch(() => problems.push("the search leads nowhere"));
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await page.waitForURL("**/allocations/climate").catch(() => problems.push("j and Enter open nothing"));
  await page.keyboard.press("?");
  await page.locator("dialog#keys[open]").waitFor({ timeout: 2_000 }).catch(() => problems.push("? does not list the keys"));
  await page.keyboard.press("Escape");
  for (const theme of ["dark", "light", "auto"]) {
    await page.keyboard.press("t");
    await page.locator(`html[data-theme=${theme}]`).waitFor({ timeout: 5_000 }).catch(() => problems.push(`t does not lead to ${theme}`));
  }
  check("keys lead through the pages", problems);
  await page.close();
}
