//! Numbers from numbers and texts, the same on every machine and in every version: what a run computes hangs on them, so
//! neither may ever change. Where a sequence of random numbers is wanted, `rand` makes it.

/// FNV-1a (Fowler, Noll, Vo) of bytes, 64 bits.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A well-mixed number from a number: the finalizer of MurmurHash3 (Appleby). One step, no state, so that a place alone says
/// what is drawn for it.
#[inline]
pub fn mixed(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_values_are_kept() {
        // The FNV test suite (isthe.com/chongo/tech/comp/fnv): of "", "a" and "foobar".
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
        // fmix64 of MurmurHash3.cpp; computed with Python's integers.
        assert_eq!(mixed(0), 0);
        assert_eq!(mixed(1), 0xb456_bcfc_34c2_cb2c);
    }
}
