//! The stable hash by which keys and paths find their worker: the same in every build, on every run,
//! and while compiling.

/// The hash of some bytes: FNV-1a of 64 bits, whose high bits the finish makes as good as its low
/// ones.
pub(crate) const fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    // The finish of MurmurHash3.
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// One of `n`, from 0, by a hash: its share of 2^64, without a division.
pub(crate) const fn pick(hash: u64, n: u32) -> u32 {
    ((hash as u128 * n as u128) >> 64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_same_in_every_build() {
        // Of an independent computation of FNV-1a and fmix64.
        assert_eq!(hash(b""), 0xefd0_1f60_ba99_2926);
        assert_eq!(hash(b"a"), 0x82a2_a958_a9be_ce5b);
        assert_eq!(hash(b"/var/lib/app/wal/0001"), 0x89f6_d14e_9313_d259);
        assert_ne!(hash(b"ab"), hash(b"ba"));
    }

    #[test]
    fn every_one_is_picked_about_as_often() {
        for n in [1, 2, 3, 7, 16, 256] {
            let mut counts = [0u32; 256];
            let many: u32 = 1000 * n;
            for i in 0..many {
                counts[pick(hash(&i.to_le_bytes()), n) as usize] += 1;
            }
            let picked = &counts[..n as usize];
            assert!(picked.iter().all(|count| (800..1200).contains(count)), "{n}: {picked:?}");
            assert_eq!(picked.iter().sum::<u32>(), many);
        }
    }
}
