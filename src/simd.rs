//! `wide!`: loops that the compiler turns into vector instructions, in the widest form that the processor has.

/// Compiles a function three times (baseline, AVX2 with FMA, AVX-512) and calls the widest one that runs here.
///
/// Only element-wise loops and reductions over fixed lanes belong in it. Results may differ between processors in the
/// last bit, never between two runs on one.
macro_rules! wide {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "the caller's")]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[allow(clippy::too_many_arguments, reason = "the caller's")]
            #[inline(always)]
            fn plain($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[allow(clippy::too_many_arguments, reason = "the caller's")]
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                fn v4($($arg: $ty),*) $(-> $ret)? {
                    plain($($arg),*)
                }
                #[allow(clippy::too_many_arguments, reason = "the caller's")]
                #[target_feature(enable = "avx2,fma")]
                fn v3($($arg: $ty),*) $(-> $ret)? {
                    plain($($arg),*)
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    if is_x86_feature_detected!("avx512f")
                        && is_x86_feature_detected!("avx512vl")
                        && is_x86_feature_detected!("avx512dq")
                        && is_x86_feature_detected!("avx512bw")
                    {
                        // SAFETY: the processor has every feature that the function was compiled for.
                        return unsafe { v4($($arg),*) };
                    }
                    // SAFETY: as above.
                    return unsafe { v3($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    };
}
pub(crate) use wide;
