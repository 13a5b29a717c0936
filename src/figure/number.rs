//! Numbers as a person reads them in a plot: short, aligned, with a real minus and real exponents.

/// About `digits` significant digits: `0`, `0.0123`, `−4.5`, `1.2e−7`.
pub fn short(value: f64, digits: usize) -> String {
    written(value, digits, trimmed)
}

/// All of `digits` significant digits, for columns of numbers: `0.0100`, `−4.50`.
pub fn whole(value: f64, digits: usize) -> String {
    written(value, digits, |text| text)
}

fn written(value: f64, digits: usize, end: fn(&str) -> &str) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if !value.is_finite() {
        return if value.is_nan() { "not a number".into() } else { minus(format!("{value}").replace("inf", "∞")) };
    }
    let digits = digits.max(1);
    // Rounded first, so that 9.996 counts as 10.0.
    let scientific = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let text = if (-4..6).contains(&exponent) {
        let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
        let text = format!("{value:.decimals$}");
        end(&text).to_owned()
    } else {
        format!("{}e{exponent}", end(mantissa))
    };
    minus(text)
}

/// A difference, with its sign either way: `+0.120`, `−4.500`.
pub fn signed(value: f64, decimals: usize) -> String {
    minus(format!("{value:+.decimals$}"))
}

/// As many decimals as the largest of a table needs to show `digits` digits, so that the numbers of the table line up.
pub fn beside(value: f64, largest: f64, digits: usize) -> String {
    let exponent = largest.abs().log10().floor();
    if !value.is_finite() || !(-3.0..6.0).contains(&exponent) {
        return short(value, digits.saturating_sub(1));
    }
    let decimals = (digits as f64 - 1.0 - exponent).max(0.0) as usize;
    let text = format!("{value:.decimals$}");
    // No minus before a row of zeros.
    let zero = !text.contains(|c: char| ('1'..='9').contains(&c));
    minus(if zero { text.trim_start_matches('-').to_owned() } else { text })
}

fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

fn minus(text: String) -> String {
    text.replace('-', "−")
}

/// `10⁻³`.
pub fn power_of_ten(exponent: i32) -> String {
    format!("10{}", superscript(exponent))
}

/// `⁻¹²`.
pub fn superscript(value: i32) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let digit = |c: char| c.to_digit(10).map_or('⁻', |d| DIGITS[d as usize]);
    value.to_string().chars().map(digit).collect()
}

/// Round values that divide `low…high` into about `count` steps of 1, 2 or 5 times a power of ten.
pub fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let span = high - low;
    if !span.is_finite() || span <= 0.0 {
        return vec![];
    }
    let raw = span / count.max(1) as f64;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|&s| s >= raw * 0.999).unwrap_or(10.0 * power);
    let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
    (first..=last).map(|i| i as f64 * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_keep_their_digits() {
        let values = [0.0, 0.01, 18.2, -4.5, 6.9996, 1e-7];
        assert_eq!(values.map(|value| whole(value, 3)), ["0", "0.0100", "18.2", "−4.50", "7.00", "1.00e−7"]);
    }

    #[test]
    fn differences_have_signs() {
        assert_eq!([0.12, -4.5].map(|value| signed(value, 3)), ["+0.120", "−4.500"]);
    }

    #[test]
    fn values_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.012_345, "0.0123"),
            (-4.5, "−4.5"),
            (1.2e-7, "1.2e−7"),
            (-3.456e8, "−3.46e8"),
            (9.996, "10"),
            (1234.0, "1234"),
            (999_999.0, "1e6"),
            (f64::NAN, "not a number"),
            (f64::NEG_INFINITY, "−∞"),
        ] {
            assert_eq!(short(value, 3), text);
        }
    }

    #[test]
    fn numbers_of_a_table_line_up() {
        for (value, text) in [(0.018, "0.018"), (-0.0101, "−0.010"), (0.05, "0.050"), (-0.0001, "0.000")] {
            assert_eq!(beside(value, 0.0573, 2), text);
        }
        assert_eq!(beside(1e-9, 3e-9, 3), "1e−9");
        assert_eq!(beside(2.0, 0.0, 3), "2");
    }

    #[test]
    fn powers_have_superscripts() {
        assert_eq!(power_of_ten(-12), "10⁻¹²");
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.0, 10.0, 5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(-1.2, 1.2, 5), [-1.0, -0.5, 0.0, 0.5, 1.0]);
        assert!(ticks(1.0, 1.0, 5).is_empty());
        assert!(ticks(f64::NAN, 1.0, 5).is_empty());
    }
}
