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
    let mut pages: Vec<PathBuf> = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(|name| root().join(name)).into();
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
