//! Keys: who signs checkpoints, and how a signature is told from another's (C2SP signed-note, Ed25519).

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use rand::Rng;
use secrecy::{ExposeSecret, SecretString};
use signed_note::{Signature, StandardVerifier, Verifier};

use crate::store::private;

/// The kind of an Ed25519 key in the encoding of keys.
const ED25519: u8 = 1;

/// The longest file that is read as a key.
const KEY_BYTES_MAX: u64 = 4_096;

/// What an external signer may print.
const ANSWER_BYTES_MAX: u64 = 4_096;

/// Why there is no key, or no signature.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file.
    #[error("{} cannot be used", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A text that is no key.
    #[error("{what} is no {kind}: {problem}")]
    NoKey {
        /// Where it came from.
        what: String,
        /// What was expected.
        kind: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A name that no key can have.
    #[error(
        "{0:?} is no name of a key: 1 to 200 characters without blanks and without '+' are allowed, as in sluice.site.example/log"
    )]
    Name(String),
    /// The external signer.
    #[error("the signer {command:?} {problem}")]
    Signer {
        /// The command.
        command: String,
        /// What went wrong.
        problem: String,
    },
}

/// A public key, as a line of text: name, id and key.
#[derive(Clone)]
pub struct PublicKey {
    text: String,
    verifier: StandardVerifier,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl PublicKey {
    /// Reads a key from its line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let no_key = |problem: String| KeyError::NoKey { what: format!("{text:?}"), kind: "public key", problem };
        let verifier = StandardVerifier::new(text).map_err(|error| no_key(error.to_string()))?;
        Ok(Self { text: text.to_owned(), verifier })
    }

    /// The key's line.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name, which is the origin of the log too.
    pub fn name(&self) -> &str {
        self.verifier.name()
    }

    /// The number that tells keys of one name apart.
    pub fn id(&self) -> u32 {
        self.verifier.key_id()
    }

    /// Whether a signature of a note's text is this key's.
    pub fn signed(&self, text: &[u8], signature: &Signature) -> bool {
        self.is_named_by(signature) && self.verifier.verify(text, signature.signature())
    }

    /// Whether a signature says that it is this key's.
    pub fn is_named_by(&self, signature: &Signature) -> bool {
        signature.name() == self.name() && signature.id() == self.id()
    }
}

/// Who signs.
#[derive(Debug)]
pub enum SigningPart {
    /// The key itself.
    Here(Box<SigningKey>),
    /// A command that gets the text and prints the signature.
    Command(PathBuf),
}

/// A key that can sign.
#[derive(Debug)]
pub struct Key {
    public: PublicKey,
    part: SigningPart,
}

fn checked_name(name: &str) -> Result<(), KeyError> {
    let plain = name.chars().count() <= 200 && !name.chars().any(char::is_control);
    if plain && signed_note::is_key_name_valid(name) { Ok(()) } else { Err(KeyError::Name(name.to_owned())) }
}

fn public_of(name: &str, key: &VerifyingKey) -> Result<PublicKey, KeyError> {
    PublicKey::read(&signed_note::new_ed25519_verifier_key(name, key))
}

impl Key {
    /// Makes a key.
    ///
    /// # Errors
    /// A name that no key can have.
    pub fn generate(name: &str) -> Result<(Self, SecretString), KeyError> {
        checked_name(name)?;
        let mut seed = [0; 32];
        rand::rng().fill_bytes(&mut seed);
        let key = SigningKey::from_bytes(&seed);
        let public = public_of(name, &key.verifying_key())?;
        let secret = BASE64.encode([&[ED25519][..], &seed].concat());
        let text = SecretString::from(format!("PRIVATE+KEY+{name}+{:08x}+{secret}", public.id()));
        Ok((Self { public, part: SigningPart::Here(Box::new(key)) }, text))
    }

    /// Reads a private key from its line.
    ///
    /// # Errors
    /// What is wrong with it; the key itself is not repeated.
    pub fn read(text: &SecretString, what: &str) -> Result<Self, KeyError> {
        let no_key =
            |problem: &str| KeyError::NoKey { what: what.to_owned(), kind: "private key", problem: problem.to_owned() };
        let text = text.expose_secret().trim();
        let rest = text.strip_prefix("PRIVATE+KEY+").ok_or_else(|| no_key("it begins with PRIVATE+KEY+"))?;
        let mut parts = rest.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(no_key("it has five parts, with + between them"));
        };
        checked_name(name)?;
        let bytes = BASE64.decode(key).map_err(|_| no_key("its last part is no Base64"))?;
        let seed = bytes.strip_prefix(&[ED25519]).and_then(|seed| <[u8; 32]>::try_from(seed).ok());
        let key = SigningKey::from_bytes(&seed.ok_or_else(|| no_key("it is no Ed25519 key"))?);
        let public = public_of(name, &key.verifying_key())?;
        if u32::from_str_radix(id, 16) != Ok(public.id()) {
            return Err(no_key("its id is not that of its key"));
        }
        Ok(Self { public, part: SigningPart::Here(Box::new(key)) })
    }

    /// Reads a private key from a file.
    ///
    /// # Errors
    /// The file cannot be read, or holds no key.
    pub fn of_file(path: &Path) -> Result<Self, KeyError> {
        Self::read(&SecretString::from(read(path)?), &path.display().to_string())
    }

    /// A key that a command signs with; the file holds the public half.
    ///
    /// # Errors
    /// The file cannot be read, or holds no key.
    pub fn of_command(command: &Path, public: &Path) -> Result<Self, KeyError> {
        let public = PublicKey::read(&read(public)?)?;
        Ok(Self { public, part: SigningPart::Command(command.to_owned()) })
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The key itself, where this process has it.
    ///
    /// # Errors
    /// A command signs.
    pub(super) fn here(&self) -> Result<&SigningKey, KeyError> {
        match &self.part {
            SigningPart::Here(key) => Ok(key),
            SigningPart::Command(command) => Err(KeyError::Signer {
                command: command.display().to_string(),
                problem: "signs checkpoints, and is no witness".to_owned(),
            }),
        }
    }

    /// Signs the text of a note.
    ///
    /// # Errors
    /// The external signer fails, or what it prints is no signature of this text by this key.
    pub fn sign(&self, text: &[u8]) -> Result<Signature, KeyError> {
        let bytes = match &self.part {
            SigningPart::Here(key) => key.sign(text).to_bytes().to_vec(),
            SigningPart::Command(command) => asked(command, text)?,
        };
        let signature = Signature::new(self.public.name().to_owned(), self.public.id(), bytes);
        let failed = |problem: &str| KeyError::Signer {
            command: match &self.part {
                SigningPart::Here(_) => "here".to_owned(),
                SigningPart::Command(command) => command.display().to_string(),
            },
            problem: problem.to_owned(),
        };
        let signature = signature.map_err(|error| failed(&error.to_string()))?;
        // A signer that signs something else, or with another key, must not get into the record.
        if self.public.signed(text, &signature) {
            Ok(signature)
        } else {
            Err(failed("gave a signature that is none of this text by this key"))
        }
    }
}

/// Gives a command the text, and takes from its output the signature: 64 bytes in Base64.
fn asked(command: &Path, text: &[u8]) -> Result<Vec<u8>, KeyError> {
    let failed = |problem: String| KeyError::Signer { command: command.display().to_string(), problem };
    let io = |error: std::io::Error| failed(format!("cannot be asked: {error}"));
    let mut child = Command::new(command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(io)?;
    if let Some(mut input) = child.stdin.take() {
        // A signer that ends without reading says why by its status.
        let _ = input.write_all(text);
    }
    let mut said = String::new();
    if let Some(output) = child.stdout.take() {
        output.take(ANSWER_BYTES_MAX).read_to_string(&mut said).map_err(io)?;
    }
    let status = child.wait().map_err(io)?;
    if !status.success() {
        return Err(failed(format!("failed ({status})")));
    }
    BASE64.decode(said.trim()).map_err(|_| failed("prints something else than a signature in Base64".to_owned()))
}

fn read(path: &Path) -> Result<String, KeyError> {
    let failed = |source| KeyError::File { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(KEY_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Reads a public key from a file.
///
/// # Errors
/// The file cannot be read, or holds no key.
pub fn public_of_file(path: &Path) -> Result<PublicKey, KeyError> {
    PublicKey::read(&read(path)?)
}

/// Writes a new key: the private half into a file that only its owner may read, the public half beside it (`.pub`).
///
/// # Errors
/// A file of one of these names is there already, or cannot be written.
pub fn write(path: &Path, secret: &SecretString, public: &PublicKey) -> Result<PathBuf, KeyError> {
    let beside = PathBuf::from(format!("{}.pub", path.display()));
    for (path, text) in [(path, secret.expose_secret()), (beside.as_path(), public.as_str())] {
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        if path.exists() {
            return Err(failed(std::io::Error::new(std::io::ErrorKind::AlreadyExists, "it is there already")));
        }
        let mut file = private::file(path).map_err(failed)?;
        file.write_all(format!("{text}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    }
    Ok(beside)
}

#[cfg(test)]
mod tests {
    use super::super::checkpoint::SignedNote;
    use super::*;

    /// From the documentation of the reference implementation (golang.org/x/mod/sumdb/note).
    const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const SAID: &str =
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    const SIGNED: &str =
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn the_published_note_is_verified_and_a_changed_one_is_not() {
        let note = SignedNote::read(&format!("{SAID}\n{SIGNED}")).unwrap();
        let key = PublicKey::read(PETER).unwrap();
        assert_eq!((key.name(), key.id()), ("PeterNeumann", 0xc74f_20a3));
        let signature = &note.signatures()[0];
        assert!(key.signed(SAID.as_bytes(), signature));
        assert!(!key.signed(SAID.replace("cryptography", "Cryptography").as_bytes(), signature));
        let broken = PublicKey::read(&PETER.replace("c74f20a3", "c74f20a4"));
        assert!(broken.unwrap_err().to_string().contains("invalid verifier ID"));
    }

    #[test]
    fn a_key_is_kept_in_files_and_signs_what_it_is_given() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notary.key");
        let (key, secret) = Key::generate("sluice.site.example/log").unwrap();
        let public = write(&path, &secret, key.public()).unwrap();
        assert!(write(&path, &secret, key.public()).unwrap_err().to_string().contains("notary.key"));
        let again = Key::of_file(&path).unwrap();
        assert_eq!(public_of_file(&public).unwrap(), *again.public());
        let signature = again.sign(b"text\n").unwrap();
        assert!(key.public().signed(b"text\n", &signature) && !key.public().signed(b"test\n", &signature));
        for (text, expected) in [
            ("x", "begins with PRIVATE+KEY+"),
            ("PRIVATE+KEY+a", "five parts"),
            ("PRIVATE+KEY+a+00000000+ATES", "no Ed25519 key"),
        ] {
            let error = Key::read(&SecretString::from(text.to_owned()), "the file").unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(Key::generate("a b").unwrap_err().to_string().contains("without blanks"));
    }

    #[cfg(unix)]
    #[test]
    fn an_external_signer_is_believed_only_if_its_signature_is_one() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (key, secret) = Key::generate("elsewhere").unwrap();
        let path = folder.path().join("k");
        let public = write(&path, &secret, key.public()).unwrap();
        let signature = BASE64.encode(key.sign(b"text\n").unwrap().signature());
        let command = |name: &str, script: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
            path
        };
        let good = Key::of_command(&command("good", &format!("cat >/dev/null; echo {signature}")), &public).unwrap();
        assert!(key.public().signed(b"text\n", &good.sign(b"text\n").unwrap()));
        let wrong = good.sign(b"another\n").unwrap_err().to_string();
        assert!(wrong.contains("none of this text by this key"), "{wrong}");
        for (script, expected) in [("exit 3", "exit status: 3"), ("echo nothing", "something else than a signature")] {
            let error = Key::of_command(&command("bad", script), &public).unwrap().sign(b"text\n").unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
