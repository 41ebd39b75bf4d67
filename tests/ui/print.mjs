// The statement on paper: one page of A4, black on white whatever the screen shows.
import { join } from "node:path";

export async function printed(context, photos, check) {
  const page = await context.newPage();
  const problems = [];
  await page.emulateMedia({ media: "print", colorScheme: "dark" });
  await page.goto("/allocations/climate/statement", { waitUntil: "networkidle" });
  const pdf = await page.pdf({ format: "A4", preferCSSPageSize: true, path: photos && join(photos, "statement.pdf") });
  const pages = pdf.toString("latin1").match(/\/Type\s*\/Page[^s]/g)?.length ?? 0;
  if (pages !== 1) problems.push(`${pages} pages, not 1`);
  for (const hidden of [".top", ".side", ".actions", ".twin"]) {
    if (await page.locator(hidden).first().isVisible().catch(() => false)) problems.push(`${hidden} is printed`);
  }
  const background = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  if (!/255, 255, 255|0, 0, 0, 0/.test(background)) problems.push(`printed on ${background}`);
  check("the statement is one page of A4", problems);
  await page.close();
}
