//! The tree while it grows: its right edge, as tiles that are kept or as the roots of whole subtrees.

use tlog_tiles::{EMPTY_HASH, Error, Hash, HashReader, node_hash, split_stored_hash_index};

/// Hashes of one tile (C2SP tlog-tiles: height 8).
pub const TILE: usize = 256;

/// Levels of the tree in one level of tiles.
const HEIGHT: u8 = 8;

/// The root over a part of the tree whose roots of whole subtrees are given from left to right.
fn folded(peaks: impl DoubleEndedIterator<Item = Hash>) -> Hash {
    peaks.rev().reduce(|right, left| node_hash(left, right)).unwrap_or(EMPTY_HASH)
}

/// The root of a whole subtree over a power of two of hashes.
fn whole(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => EMPTY_HASH,
        [one] => *one,
        more => {
            let (left, right) = more.split_at(more.len() / 2);
            node_hash(whole(left), whole(right))
        }
    }
}

/// The roots of whole subtrees over the leaves so far: what is needed to go on, and no more.
#[derive(Debug, Clone, Default)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node_hash(left, hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root over the leaves so far.
    pub fn root(&self) -> Hash {
        folded(self.peaks.iter().copied())
    }
}

/// A tile: its level, its number in the level, and its hashes, fewer than 256 at the edge.
#[derive(Debug, Clone, PartialEq)]
pub struct Tile {
    /// The level; leaves have 0.
    pub level: u8,
    /// Its number in the level, from 0.
    pub number: u64,
    /// Its hashes.
    pub hashes: Vec<Hash>,
}

/// The right edge of a tree in tiles: the unfinished tile of each level.
#[derive(Debug, Clone, Default)]
pub struct Edge {
    size: u64,
    levels: Vec<Vec<Hash>>,
}

impl Edge {
    /// The edge of a tree of this size, from the hashes of the unfinished tiles, the lowest level first; none if they are not
    /// those of such a tree.
    pub fn of(size: u64, levels: Vec<Vec<Hash>>) -> Option<Self> {
        let edge = Self { size, levels };
        let fits = edge.widths().into_iter().eq(edge.levels.iter().map(Vec::len));
        fits.then_some(edge)
    }

    fn widths(&self) -> Vec<usize> {
        widths(self.size)
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf; tiles that it fills are handed out.
    pub fn push(&mut self, leaf: Hash, mut full: impl FnMut(Tile)) {
        self.size += 1;
        let (mut hash, mut level, mut number) = (leaf, 0, self.size);
        loop {
            if self.levels.len() == level {
                self.levels.push(Vec::with_capacity(TILE));
            }
            self.levels[level].push(hash);
            number /= TILE as u64;
            if self.levels[level].len() < TILE {
                return;
            }
            let hashes = std::mem::take(&mut self.levels[level]);
            hash = whole(&hashes);
            full(Tile { level: level_of(level), number: number - 1, hashes });
            level += 1;
        }
    }

    /// The unfinished tiles, as far as there is something in them.
    pub fn unfinished(&self) -> Vec<Tile> {
        let tile = |(level, hashes): (usize, &Vec<Hash>)| Tile {
            level: level_of(level),
            number: self.size >> (HEIGHT * (level_of(level) + 1)).min(63),
            hashes: hashes.clone(),
        };
        self.levels.iter().enumerate().filter(|(_, hashes)| !hashes.is_empty()).map(tile).collect()
    }

    /// The root over the leaves so far.
    pub fn root(&self) -> Hash {
        let mut peaks = Vec::new();
        for hashes in self.levels.iter().rev() {
            let mut rest = hashes.as_slice();
            for bit in (0..HEIGHT).rev().map(|bit| 1_usize << bit) {
                if hashes.len() & bit != 0 {
                    let (part, behind) = rest.split_at(bit);
                    peaks.push(whole(part));
                    rest = behind;
                }
            }
        }
        folded(peaks.into_iter())
    }
}

fn level_of(level: usize) -> u8 {
    // A tree of 2^64 leaves has eight.
    u8::try_from(level).unwrap_or(7)
}

/// How many hashes the unfinished tile of each level has in a tree of this size.
pub fn widths(size: u64) -> Vec<usize> {
    let mut widths = Vec::new();
    let mut left = size;
    while left > 0 {
        widths.push(usize::try_from(left % TILE as u64).unwrap_or_default());
        left /= TILE as u64;
    }
    widths
}

/// Where in which tile the hashes lie that make up a node: the tile's level and number, the first hash, how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The tile's level.
    pub level: u8,
    /// The tile's number.
    pub number: u64,
    first: usize,
    count: usize,
}

impl Place {
    /// The place of a node by its index in the order in which the crate stores nodes.
    pub fn of(index: u64) -> Self {
        let (level, n) = split_stored_hash_index(index);
        let count = 1_usize << (level % HEIGHT);
        let first = n * count as u64;
        let within = usize::try_from(first % TILE as u64).unwrap_or_default();
        Self { level: level / HEIGHT, number: first / TILE as u64, first: within, count }
    }

    /// The node, from the hashes of its tile; none if the tile does not hold it.
    pub fn node(&self, tile: &[Hash]) -> Option<Hash> {
        tile.get(self.first..self.first + self.count).map(whole)
    }
}

/// Answers with what it was given, and remembers what it was asked for: nodes are looked up between two attempts.
pub struct Asked<'n> {
    known: &'n std::collections::BTreeMap<u64, Hash>,
    missing: std::cell::RefCell<Vec<u64>>,
}

impl<'n> Asked<'n> {
    /// Answers with these nodes.
    pub fn with(known: &'n std::collections::BTreeMap<u64, Hash>) -> Self {
        Self { known, missing: std::cell::RefCell::default() }
    }

    /// What it was asked for and did not have.
    pub fn missing(self) -> Vec<u64> {
        self.missing.into_inner()
    }
}

impl HashReader for Asked<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        self.missing.borrow_mut().extend(indexes.iter().filter(|index| !self.known.contains_key(index)));
        indexes.iter().map(|index| self.known.get(index).copied().ok_or(Error::IndexesNotInTree)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tlog_tiles::{check_record, check_tree, prove_record, prove_tree, record_hash};

    use super::*;

    fn leaf(number: u64) -> Hash {
        record_hash(&number.to_be_bytes())
    }

    /// The tree of RFC 6962, straight from its definition.
    fn defined(leaves: &[Hash]) -> Hash {
        if leaves.len() < 2 {
            return leaves.first().copied().unwrap_or(EMPTY_HASH);
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        node_hash(defined(left), defined(right))
    }

    #[test]
    fn the_published_tree_of_eight_leaves_comes_out() {
        // Inputs and roots of the reference implementation of RFC 6962.
        let inputs =
            ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let (mut frontier, mut edge) = (Frontier::default(), Edge::default());
        assert_eq!(
            super::super::leaf::hex(&frontier.root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        for (input, root) in inputs.into_iter().zip(roots) {
            let bytes: Vec<u8> =
                (0..input.len() / 2).map(|at| u8::from_str_radix(&input[at * 2..at * 2 + 2], 16).unwrap()).collect();
            frontier.push(record_hash(&bytes));
            edge.push(record_hash(&bytes), |_| ());
            assert_eq!(super::super::leaf::hex(&frontier.root()), root);
            assert_eq!(edge.root(), frontier.root());
        }
    }

    #[test]
    fn tiles_and_frontier_give_the_defined_root_and_proofs_from_tiles_hold() {
        let (mut frontier, mut edge, mut leaves) = (Frontier::default(), Edge::default(), Vec::new());
        let mut tiles: BTreeMap<(u8, u64), Vec<Hash>> = BTreeMap::new();
        let mut roots = vec![EMPTY_HASH];
        for number in 0..70_000_u64 {
            leaves.push(leaf(number));
            frontier.push(leaf(number));
            edge.push(leaf(number), |tile| drop(tiles.insert((tile.level, tile.number), tile.hashes)));
            roots.push(if number < 300 || number.is_multiple_of(997) { frontier.root() } else { EMPTY_HASH });
            if number < 600 || number.is_multiple_of(9_973) {
                assert_eq!((edge.root(), frontier.root()), (defined(&leaves), defined(&leaves)), "{number}");
            }
        }
        let again = Edge::of(edge.size(), edge.levels.clone()).unwrap();
        assert_eq!(again.root(), edge.root());
        assert!(Edge::of(edge.size() + 1, edge.levels.clone()).is_none());
        for tile in edge.unfinished() {
            assert!(
                tiles.insert((tile.level, tile.number), tile.hashes).is_none(),
                "an unfinished tile is no full one"
            );
        }
        let size = edge.size();
        for number in [0, 255, 256, 65_535, 65_536, 69_999] {
            let proof = proved(&tiles, |nodes| prove_record(size, number, nodes));
            check_record(&proof, size, edge.root(), number, leaf(number)).unwrap();
            assert!(check_record(&proof, size, edge.root(), number, leaf(number + 1)).is_err());
        }
        for first in [1, 256, 299] {
            let proof = proved(&tiles, |nodes| prove_tree(size, first, nodes));
            let root = roots[usize::try_from(first).unwrap()];
            check_tree(&proof, size, edge.root(), first, root).unwrap();
            assert!(check_tree(&proof, size, edge.root(), first, edge.root()).is_err());
        }
    }

    fn proved(
        tiles: &BTreeMap<(u8, u64), Vec<Hash>>,
        prove: impl Fn(&Asked<'_>) -> Result<Vec<Hash>, Error>,
    ) -> Vec<Hash> {
        let nothing = BTreeMap::new();
        let asked = Asked::with(&nothing);
        assert!(prove(&asked).is_err());
        let node = |index: u64| {
            let place = Place::of(index);
            (index, place.node(&tiles[&(place.level, place.number)]).unwrap())
        };
        let nodes = asked.missing().into_iter().map(node).collect();
        prove(&Asked::with(&nodes)).unwrap()
    }
}
