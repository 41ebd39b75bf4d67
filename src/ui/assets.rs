//! Style, script, fonts and icons, which are part of the program. An address contains the hash of its content, so that
//! a browser may cache it forever, and a new version of the program has new addresses.

use std::collections::HashMap;
use std::io::Write;
use std::sync::LazyLock;

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::RustEmbed;
use sha2::{Digest, Sha256};

/// The files, as they are built in; a build for development reads them from the source folder.
#[derive(RustEmbed)]
#[folder = "src/ui/assets"]
struct Files;

/// One file as it is sent.
struct Asset {
    kind: &'static str,
    plain: Bytes,
    /// Smaller; none where it would not be.
    packed: Option<Bytes>,
}

/// Files by the last segment of their address, and addresses by the name of the file.
struct Assets {
    by_address: HashMap<String, Asset>,
    addresses: HashMap<String, String>,
}

static ASSETS: LazyLock<Assets> = LazyLock::new(Assets::read);

impl Assets {
    fn read() -> Self {
        let mut assets = Self { by_address: HashMap::new(), addresses: HashMap::new() };
        // Styles last: they name other files by their addresses.
        let mut names: Vec<String> = Files::iter().map(std::borrow::Cow::into_owned).collect();
        names.sort_by_key(|name| (is(name, "css"), name.clone()));
        let mut style = Vec::new();
        for name in names {
            let Some(file) = Files::get(&name) else { continue };
            if is(&name, "css") {
                style.extend_from_slice(file.data.as_ref());
            } else {
                assets.add(&name, file.data.into_owned());
            }
        }
        let mut style = String::from_utf8_lossy(&style).into_owned();
        for (name, address) in &assets.addresses {
            style = style.replace(&format!("url({name})"), &format!("url({address})"));
        }
        assets.add("sluice.css", style.into_bytes());
        assets
    }

    fn add(&mut self, name: &str, data: Vec<u8>) {
        let hash = super::words::hex(&Sha256::digest(&data)[..6]);
        let file = name.rsplit('/').next().unwrap_or(name);
        let (stem, ending) = file.rsplit_once('.').unwrap_or((file, ""));
        let address = format!("{stem}.{hash}.{ending}");
        let packed = if ending == "woff2" { None } else { gzip(&data) };
        self.addresses.insert(name.to_owned(), format!("/assets/{address}"));
        let asset = Asset { kind: kind_of(ending), plain: data.into(), packed: packed.map(Bytes::from) };
        self.by_address.insert(address, asset);
    }
}

fn is(name: &str, ending: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, found)| found == ending)
}

fn gzip(data: &[u8]) -> Option<Vec<u8>> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(data).ok()?;
    packed.finish().ok().filter(|packed| packed.len() < data.len())
}

fn kind_of(ending: &str) -> &'static str {
    match ending {
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "woff2" => "font/woff2",
        "LICENSE" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// The address of a file, by its name in the folder of assets; styles are one file, `sluice.css`.
pub fn address(name: &str) -> &'static str {
    ASSETS.addresses.get(name).map_or("/assets/missing", String::as_str)
}

/// Answers with a file.
pub async fn serve(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(asset) = ASSETS.by_address.get(&name) else { return StatusCode::NOT_FOUND.into_response() };
    let packs = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    let packs = packs.is_some_and(|value| value.split(',').any(|one| one.trim().starts_with("gzip")));
    let packed = asset.packed.clone().filter(|_| packs);
    let is_packed = packed.is_some();
    let mut response = packed.unwrap_or_else(|| asset.plain.clone()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if is_packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_the_style_names_is_there() {
        let style = &ASSETS.by_address[address("sluice.css").trim_start_matches("/assets/")].plain;
        let style = std::str::from_utf8(style).unwrap();
        let named: Vec<&str> = style.split("url(").skip(1).filter_map(|rest| rest.split(')').next()).collect();
        assert!(named.iter().filter(|address| address.starts_with("/assets/")).count() >= 2, "{named:?}");
        for address in named.iter().filter(|address| !address.starts_with("data:") && !address.starts_with('#')) {
            assert!(ASSETS.by_address.contains_key(address.trim_start_matches("/assets/")), "{address}");
        }
    }
}
