use sha2::{Digest, Sha256};

/// Length of a tree hash, in bytes.
pub(crate) const HASH_BYTES: usize = 32;

/// Merkle tree hash over `leaves`, in order, with SHA-256 (RFC 9162, section 2.1.1).
///
/// A leaf's hash begins with 0 and a node's with 1, so that no leaf can pass for a node. The hash of no leaves is that of
/// the empty string.
#[must_use]
pub fn tree_hash<L: AsRef<[u8]>>(leaves: impl IntoIterator<Item = L>) -> [u8; HASH_BYTES] {
    // Whole subtrees from left to right, each at least twice as large as the next: their sizes are the bits of the
    // number of leaves so far.
    let mut subtrees: Vec<[u8; HASH_BYTES]> = Vec::new();
    for (count, leaf) in leaves.into_iter().enumerate() {
        let mut hash = leaf_hash(leaf.as_ref());
        for _ in 0..count.trailing_ones() {
            let left = subtrees.pop().expect("each one bit of the count is a subtree");
            hash = node_hash(&left, &hash);
        }
        subtrees.push(hash);
    }
    let rest = subtrees.into_iter().rev().reduce(|right, left| node_hash(&left, &right));
    rest.unwrap_or_else(|| Sha256::digest([]).into())
}

fn leaf_hash(leaf: &[u8]) -> [u8; HASH_BYTES] {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

fn node_hash(left: &[u8], right: &[u8]) -> [u8; HASH_BYTES] {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The leaves and roots that implementations of RFC 6962 and RFC 9162 are tested with.
    #[test]
    fn the_known_vectors_come_out() {
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        for (count, root) in roots.into_iter().enumerate() {
            assert_eq!(hex(&tree_hash(&leaves[..count])), root, "{count} leaves");
        }
    }

    /// The definition as the RFC writes it.
    fn by_definition(leaves: &[Vec<u8>]) -> [u8; HASH_BYTES] {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => leaf_hash(leaf),
            _ => {
                let left = leaves.len().next_power_of_two() / 2;
                node_hash(&by_definition(&leaves[..left]), &by_definition(&leaves[left..]))
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_what_the_definition_says(leaves in prop::collection::vec(any::<Vec<u8>>(), 0..70)) {
            prop_assert_eq!(tree_hash(&leaves), by_definition(&leaves));
        }
    }
}
