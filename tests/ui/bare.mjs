// What has to work without script, and what people may call their things.
const submit = (page, selector) => Promise.all([page.waitForNavigation(), page.locator(selector).first().click()]);

// Reading, filtering, turning pages, evaluating, changing: by links and forms alone.
export async function withoutScript(browser, base, key, check) {
  const context = await browser.newContext({ baseURL: base, javaScriptEnabled: false, viewport: { width: 1440, height: 900 } });
  const page = await context.newPage();
  const step = async (name, what) => {
    const problems = [];
    try {
      await what();
    } catch (error) {
      problems.push(error.message.split("\n")[0]);
    }
    check(`without script: ${name}`, problems);
  };
  const says = (selector, text) => page.locator(selector).filter({ hasText: text }).first().waitFor({ timeout: 5_000 });
  await step("sign in", async () => {
    await page.goto("/allocations");
    await page.fill("#token", key);
    await submit(page, "button.primary");
    await says("h1", "Allocations");
  });
  await step("search and filter", async () => {
    await page.fill(".filter-q input", "climate");
    await submit(page, ".filter-q button");
    await says("#rows", "1–1 of 1");
    await page.goto("/allocations");
    await page.locator(".tools .menu summary").first().click();
    await submit(page, '.tools .menu[open] a[href*="state=paused"]');
    await says(".tools .pill.set", "Paused");
  });
  await step("turn a page of a log", async () => {
    await page.goto("/policies/alpine-quarterly");
    await submit(page, '#log a[rel="next"]');
    await says("#log .table-foot", "26–");
  });
  await step("see a tab, a chart and its table", async () => {
    await page.goto("/allocations/climate");
    await page.locator(".twin summary").click();
    await says(".twin tbody", "node-hours").catch(() => says(".twin tbody", "."));
    await submit(page, '#tabs a[href*="tab=commands"]');
    await says("#tabs", "sacctmgr");
  });
  await step("try a policy out and evaluate it", async () => {
    await page.goto("/policies/alpine-quarterly");
    await submit(page, '.actions a[href$="/evaluate"]');
    await says(".banner", "Nothing has been changed or recorded");
    await submit(page, ".dialog-foot button.primary");
    await says(".banner", "The evaluation is recorded");
  });
  await step("change the rules of a policy", async () => {
    await page.goto("/policies/alpine-quarterly/edit");
    await page.fill("#grace_ratio", "7");
    await submit(page, "#outcome button.primary");
    await says("#grace_ratio-help .wrong", "7");
    await page.fill("#grace_ratio", "0.25");
    await submit(page, "#outcome button:not(.primary)");
    await says("#outcome", "Nothing has been changed or recorded");
    await page.fill("#reason", "Without script");
    await submit(page, "#outcome button.primary");
    await says("#rules-title", "version 3");
  });
  await context.close();
}

const LONG = `Long ${"Wort".repeat(62)}!!`;
export const NAMES = [
  ["long", LONG],
  ["rtl", "مشروع المناخ (2026) אקלים"],
  ["emoji", "🧬🌊 Meere & Gene 👩🏽 e\u0301"],
  ["html", '<img src=x onerror="window.hit=1"><script>window.hit=1</script>"\'&amp;'],
];

// Names of every kind stand on pages as they are, do nothing, and make no page wider than its window.
export async function names(service, context, width, check) {
  const offerings = await service.call("GET", "/api/marketplace-provider-offerings/");
  const customers = await service.call("GET", "/api/customers/?page_size=100");
  const known = await service.call("GET", "/api/marketplace-provider-resources/?page_size=100");
  for (const [slug, name] of NAMES) {
    if (!known.some((row) => row.slug === `name-${slug}`)) {
      const customer = customers.find((row) => row.slug === "polar") ?? customers[1];
      const project = await service.call("POST", "/api/projects/", { name, slug: `name-${slug}`, customer: customer.url });
      await service.call("POST", "/api/marketplace-provider-resources/", { name, slug: `name-${slug}`, offering: offerings[0].url, project: project.url, backend_id: `acc_${slug}`, limits: { node_hours: 100 } });
    }
    for (const address of [`/allocations/name-${slug}`, `/allocations/name-${slug}/statement`, `/allocations/name-${slug}/limit`, `/allocations?q=${encodeURIComponent(name.slice(0, 8))}`]) {
      const page = await context.newPage();
      const problems = [];
      page.on("pageerror", (error) => problems.push(`script: ${error.message}`));
      const answer = await page.goto(address);
      if (answer.status() !== 200) problems.push(`status ${answer.status()}`);
      const found = await page.evaluate((name) => ({ wide: document.documentElement.scrollWidth - document.documentElement.clientWidth, hit: window.hit, there: document.body.textContent.includes(name), injected: document.querySelectorAll("main img").length }), name);
      if (found.wide > 0) problems.push(`${found.wide} pixels wider than its window`);
      if (found.hit || found.injected) problems.push("a name was taken for markup");
      if (!found.there) problems.push("the name is not there as it is");
      check(`${slug} name, ${address.split("?")[0]}, ${width}`, problems);
      await page.close();
    }
  }
}
