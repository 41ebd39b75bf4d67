//! The documentation holds together: links lead somewhere, and every route and command is described.

use std::path::{Path, PathBuf};

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All pages of the project.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> =
        ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root().join(name)).into();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages
}

/// The text without code, in which brackets mean something else.
fn prose(text: &str) -> String {
    let blocks = text.split("```").step_by(2).collect::<Vec<_>>().join("\n");
    blocks.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

/// Where the links of a page lead.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.map(str::to_owned).collect()
}

/// The anchors of a page's headings: lower case, blanks as dashes, no other signs.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let plain = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    headings.map(|heading| heading.to_lowercase().chars().filter(plain).collect::<String>().replace(' ', "-")).collect()
}

/// What is wrong with a link of a page, if anything.
fn broken(page: &Path, link: &str) -> Option<String> {
    if link.starts_with("https://") || link.starts_with("http://") {
        return None;
    }
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let target = if file.is_empty() { page.to_owned() } else { page.parent()?.join(file) };
    let lost = !target.exists() || anchor.is_some_and(|anchor| !anchors(&read(&target)).iter().any(|a| a == anchor));
    lost.then(|| format!("{}: {link}", page.strip_prefix(root()).unwrap_or(page).display()))
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut seen = 0;
    let mut lost = Vec::new();
    for page in pages() {
        for link in links(&read(&page)) {
            seen += 1;
            lost.extend(broken(&page, &link));
        }
    }
    assert_eq!(lost, Vec::<String>::new());
    assert!(seen > 30, "only {seen} links were found: the test reads pages wrongly");
}

#[test]
fn the_readme_leads_to_every_page() {
    let readme = links(&read(&root().join("README.md")));
    let shown = |page: &PathBuf| page.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
    let expected =
        pages().into_iter().map(|page| shown(&page)).filter(|p| p != "README.md" && !p.starts_with("docs/adr/"));
    let missing: Vec<String> = expected.filter(|page| !readme.contains(page)).collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn every_route_is_described() {
    let described = read(&root().join("docs/API.md"));
    let schema: Value = serde_json::from_str(&read(&root().join("tests/golden/openapi.json"))).unwrap();
    let paths = schema["paths"].as_object().unwrap();
    assert!(paths.len() > 30, "the description of the API has {} paths only", paths.len());
    let missing: Vec<&String> = paths.keys().filter(|path| !described.contains(&format!("`{path}`"))).collect();
    assert_eq!(missing, Vec::<&String>::new());
}

#[test]
fn every_command_is_described() {
    let described = read(&root().join("docs/CLI.md"));
    let help = assert_cmd::Command::new(env!("CARGO_BIN_EXE_sluice")).arg("--help").assert().success();
    let help = String::from_utf8(help.get_output().stdout.clone()).unwrap();
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<&str> =
        commands.filter_map(|line| line.split_whitespace().next()).filter(|c| *c != "help").collect();
    assert!(commands.len() > 8, "the help names {commands:?} only");
    let missing: Vec<&&str> =
        commands.iter().filter(|command| !described.contains(&format!("\n## {command}"))).collect();
    assert_eq!(missing, Vec::<&&str>::new());
}

/// What stands between backticks and begins with a folder of the repository.
fn named_files(text: &str) -> Vec<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let ours =
        |name: &&str| ["src/", "projections/", "tests/", "docs/", "migrations/"].iter().any(|f| name.starts_with(f));
    quoted.filter(ours).map(str::to_owned).collect()
}

#[test]
fn the_recipes_for_developers_name_files_that_exist() {
    let page = read(&root().join("docs/DEVELOPING.md"));
    let recipes: Vec<&str> = page.split("\n## ").skip(1).collect();
    assert_eq!(recipes.len(), 10);
    for recipe in recipes {
        let named = named_files(recipe);
        assert!(named.len() >= 3, "a recipe says where to go: {recipe}");
        let lost: Vec<_> = named.iter().filter(|name| !root().join(name).exists()).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
}

#[test]
fn the_control_map_names_tests_that_exist() {
    let (page, mut sources) = (read(&root().join("docs/CONTROLS.md")), String::new());
    for_each_source(&root().join("tests/it"), &mut |text| sources.push_str(text));
    let is_test =
        |name: &&str| name.matches('_').count() >= 2 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let named: std::collections::BTreeSet<&str> = page.split('`').skip(1).step_by(2).filter(is_test).collect();
    assert!(named.len() > 12, "only {named:?} were found");
    let lost: Vec<_> = named.iter().filter(|name| !sources.contains(&format!("fn {name}("))).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

/// Every Rust source below a folder.
fn for_each_source(folder: &Path, see: &mut dyn FnMut(&str)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            for_each_source(&path, see);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            see(&read(&path));
        }
    }
}

/// The names of the fields in one call of a macro of `tracing`: what stands before its text.
fn fields_of(call: &str) -> Vec<String> {
    let (mut depth, mut quoted, mut parts) = (0, false, vec![String::new()]);
    for (at, sign) in call.char_indices() {
        match sign {
            '"' if !call[..at].ends_with('\\') => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted && depth == 0 => break,
            ')' | ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(sign);
    }
    let name = |part: &String| {
        let part = part.trim();
        let before = part.split_once('=').map_or(part, |(name, _)| name.trim());
        (!part.is_empty() && !part.starts_with('"'))
            .then(|| before.trim_start_matches(['%', '?']).rsplit('.').next().unwrap_or_default().to_owned())
    };
    parts.iter().filter_map(name).collect()
}

#[test]
fn every_field_of_the_log_is_described_and_every_described_one_is_used() {
    const MACROS: [&str; 6] = ["error!(", "warn!(", "info!(", "debug!(", "trace!(", "error_span!("];
    let mut used = std::collections::BTreeSet::new();
    for folder in ["src", "projections"] {
        for_each_source(&root().join(folder), &mut |text| {
            let calls = text.match_indices("tracing::").map(|(at, found)| &text[at + found.len()..]);
            used.extend(calls.filter_map(|c| MACROS.iter().find_map(|m| c.strip_prefix(m))).flat_map(fields_of));
        });
    }
    let page = read(&root().join("docs/LOGGING.md"));
    let table = page.split("## Fields").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1));
    let described: std::collections::BTreeSet<String> =
        rows.flat_map(|names| names.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect();
    assert_eq!(used, described, "sources on the left, docs/LOGGING.md on the right");
}
