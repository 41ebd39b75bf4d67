//! Reads allocations such as `billing=128,cpu=64,gres/gpu=4,mem=524288M,node=1`.
//!
//! Amounts are whole numbers in SLURM's own unit: memory and burst buffers in MiB (SLURM's "M"), everything else
//! counted. Without `--noconvert`, `sacct` abbreviates them in steps of 1024 (`mem=1.50G`, `cpu=1.5K`); they are
//! expanded again and rounded to the nearest whole unit, halves up, since SLURM has no fractions. Blanks around the
//! entries are ignored.

use super::mapping::ComponentRule;

/// Largest amount that is believed: a million million of anything (an exabyte of memory in MiB).
pub const MAX_AMOUNT: u64 = 1_000_000_000_000;

/// Fills `amounts` with what `text` holds for each rule; a TRES that is not there is 0, an empty text holds nothing.
///
/// `gres/gpu` is also satisfied by its typed forms: without an entry of that very name, all `gres/gpu:TYPE` are summed.
///
/// # Errors
/// An entry without `=`, an amount that is no number, or the same TRES twice; amounts of TRES that no rule names are
/// not looked at.
pub fn amounts(text: &str, rules: &[ComponentRule], amounts: &mut Vec<u64>) -> Result<(), String> {
    amounts.clear();
    amounts.resize(rules.len(), 0);
    if holds_nothing(text) {
        return Ok(());
    }
    if let Some(entry) = text.split(',').map(str::trim).find(|entry| entry.find('=').is_none_or(|at| at == 0)) {
        return Err(format!("{entry:?} is not of the form TRES=AMOUNT"));
    }
    for (amount, rule) in amounts.iter_mut().zip(rules) {
        *amount = amount_of(text, &rule.tres)?;
    }
    Ok(())
}

/// Whether a text stands for no allocation at all.
pub(super) fn holds_nothing(text: &str) -> bool {
    matches!(text, "" | "None" | "Unknown" | "N/A")
}

/// Names and values of an allocation.
pub(super) fn entries(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(',').filter_map(|entry| entry.trim().split_once('='))
}

fn amount_of(text: &str, tres: &str) -> Result<u64, String> {
    let mut exact = None;
    let mut typed: u64 = 0;
    for (name, value) in entries(text) {
        if name == tres {
            if exact.replace(amount(tres, value)?).is_some() {
                return Err(format!("{tres} is given twice"));
            }
        } else if name.strip_prefix(tres).is_some_and(|rest| rest.starts_with(':')) {
            typed = typed.saturating_add(amount(tres, value)?);
        }
    }
    Ok(exact.unwrap_or(typed))
}

pub(super) fn amount(tres: &str, value: &str) -> Result<u64, String> {
    let problem =
        || format!("{tres}={value}: not a whole number, or a number with K, M, G, T or P, of at most {MAX_AMOUNT}");
    let (digits, suffix) = match value.bytes().last() {
        Some(last) if last.is_ascii_alphabetic() => (&value[..value.len() - 1], Some(last.to_ascii_uppercase())),
        _ => (value, None),
    };
    let (whole, fraction) = match digits.split_once('.') {
        // A fraction without a suffix would be a fraction of a CPU or of a node.
        Some((whole, fraction)) if suffix.is_some() && !fraction.is_empty() && fraction.len() <= 9 => (whole, fraction),
        Some(_) => return Err(problem()),
        None => (digits, ""),
    };
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 13 || !is_number(whole) || !is_number(fraction) {
        return Err(problem());
    }
    let decimals = u32::try_from(fraction.len()).map_err(|_| problem())?;
    let number: u128 = format!("{whole}{fraction}").parse().map_err(|_| problem())?;
    let in_mebibytes = tres == "mem" || tres.starts_with("bb/");
    let steps: u32 = match suffix {
        None if in_mebibytes => 2,
        None => 0,
        Some(b'K') => 1,
        Some(b'M') => 2,
        Some(b'G') => 3,
        Some(b'T') => 4,
        Some(b'P') => 5,
        Some(_) => return Err(problem()),
    };
    let scale = 10_u128.pow(decimals) * 1024_u128.pow(if in_mebibytes { 2 } else { 0 });
    let scaled = number * 1024_u128.pow(steps);
    let rounded = (scaled + scale / 2) / scale;
    u64::try_from(rounded).ok().filter(|amount| *amount <= MAX_AMOUNT).ok_or_else(problem)
}

#[cfg(test)]
mod tests {
    use super::{amount, amounts};
    use crate::import::ComponentRule;

    fn read(text: &str, tres: &[&str]) -> Result<Vec<u64>, String> {
        let rules: Vec<_> = tres.iter().map(|tres| format!("{tres}={tres}").parse().expect("a rule")).collect();
        let mut read = vec![99];
        amounts(text, &rules as &[ComponentRule], &mut read).map(|()| read)
    }

    #[test]
    fn memory_is_counted_in_mebibytes_with_and_without_noconvert() {
        let cases = [
            ("524288M", 524_288),
            ("2G", 2048),
            ("512M", 512),
            ("1.5G", 1536),
            ("1.50G", 1536),
            ("1T", 1_048_576),
            ("0.5P", 536_870_912),
            ("2048", 2048),
            ("1536K", 2),
            ("511K", 0),
            ("1.46G", 1495),
            ("0", 0),
            ("2g", 2048),
        ];
        for (text, mebibytes) in cases {
            assert_eq!(amount("mem", text), Ok(mebibytes), "{text}");
        }
    }

    #[test]
    fn counts_may_be_shortened_too() {
        assert_eq!(amount("cpu", "1.5K"), Ok(1536));
        assert_eq!(amount("billing", "2M"), Ok(2_097_152));
        assert_eq!(amount("node", "12"), Ok(12));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "x", "1.5", "-1", "+1", "1.", ".5K", "1E", "1.5.2G", "G", "1 ", "2000000000000", "9999999999P"]
        {
            let problem = amount("cpu", text).expect_err(text);
            assert!(problem.starts_with(&format!("cpu={text}: ")), "{problem}");
        }
    }

    #[test]
    fn a_typed_gres_counts_only_where_the_plain_one_is_absent() {
        assert_eq!(read("gres/gpu=4,gres/gpu:a100=4,node=1", &["gres/gpu", "node"]), Ok(vec![4, 1]));
        assert_eq!(read("gres/gpu:a100=2,gres/gpu:h100=1", &["gres/gpu", "gres/gpu:h100"]), Ok(vec![3, 1]));
        assert_eq!(read("gres/gpumem=80G,cpu=1", &["gres/gpu"]), Ok(vec![0]));
        assert_eq!(read("", &["cpu", "mem"]), Ok(vec![0, 0]));
    }

    #[test]
    fn malformed_lists_are_refused_and_foreign_amounts_ignored() {
        assert_eq!(read("cpu=64, node=1 ,mem=2G", &["cpu", "node", "mem"]), Ok(vec![64, 1, 2048]));
        assert_eq!(read("N/A", &["cpu"]), Ok(vec![0]));
        assert!(read("cpu", &["cpu"]).is_err());
        assert!(read("cpu=1,,node=1", &["cpu"]).is_err());
        assert!(read("=1", &["cpu"]).is_err());
        assert!(read("cpu=1,cpu=2", &["cpu"]).is_err());
        assert_eq!(read("cpu=1,energy=18446744073709551614,license/x=?", &["cpu"]), Ok(vec![1]));
    }
}
