//! Names of SLURM clusters, as an offering lists them.

/// Longest name that SLURM takes.
const NAME_CHARS_MAX: usize = 40;

/// Most clusters of one offering.
pub const CLUSTERS_MAX: usize = 50;

/// What is wrong with the name of a cluster, if anything.
pub fn cluster_complaint(name: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(plain) || name.starts_with('-') {
        return Some(format!(
            "{name:?} is no name of a SLURM cluster: 1 to {NAME_CHARS_MAX} letters, digits, '-', '_' and '.' are allowed, \
             and no '-' at the beginning."
        ));
    }
    // sacct -M all asks every cluster.
    name.eq_ignore_ascii_case("all").then(|| format!("{name:?} stands for every cluster in SLURM; name each one."))
}

/// What is wrong with a list of clusters, if anything.
pub fn clusters_complaint(names: &[String]) -> Option<String> {
    if names.len() > CLUSTERS_MAX {
        return Some(format!("At most {CLUSTERS_MAX} clusters are allowed."));
    }
    names.iter().enumerate().find_map(|(at, name)| {
        let twice = names[..at].iter().any(|earlier| earlier.eq_ignore_ascii_case(name));
        cluster_complaint(name).or_else(|| twice.then(|| format!("{name:?} is there twice.")))
    })
}

#[cfg(test)]
mod tests {
    use super::clusters_complaint;

    #[test]
    fn names_are_those_that_slurm_takes_each_once() {
        let complaint =
            |names: &[&str]| clusters_complaint(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(complaint(&["alpha", "beta-2", "c_3.x"]), None);
        for wrong in ["", "a b", "-M", "a,b", "é", "all", "ALL", &"x".repeat(41)] {
            assert!(complaint(&[wrong]).is_some(), "{wrong}");
        }
        assert!(complaint(&["alpha", "Alpha"]).is_some_and(|said| said.contains("twice")));
        assert!(complaint(&["c"; 51]).is_some_and(|said| said.contains("At most 50")));
    }
}
