//! Axes: linear, logarithmic, or of names; where a value stands and what is written there.

use super::number;

/// An axis: what it shows and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Axis {
    /// Name, with the unit if there is one.
    pub label: String,
    /// Logarithmic.
    pub log: bool,
    /// Names of the values 0, 1, 2, … where the axis shows things and not amounts.
    pub names: Vec<String>,
    /// Begins at zero even where no value is near it; only a linear axis has one. What lies below is not shown.
    pub from_zero: bool,
}

impl Axis {
    /// A linear axis.
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), ..Self::default() }
    }

    /// A logarithmic axis: only values above zero can be shown.
    pub fn log(label: impl Into<String>) -> Self {
        Self { label: label.into(), log: true, ..Self::default() }
    }

    /// An axis of names: values are their indices.
    pub fn named(label: impl Into<String>, names: Vec<String>) -> Self {
        Self { label: label.into(), names, ..Self::default() }
    }

    /// The plot coordinate of a value; `None` where it cannot be shown.
    pub fn place(&self, value: f64) -> Option<f64> {
        let place = if self.log { value.log10() } else { value };
        place.is_finite().then_some(place)
    }

    /// The value at a plot coordinate.
    pub fn value(&self, place: f64) -> f64 {
        if self.log { 10f64.powf(place) } else { place }
    }

    /// Plot coordinates that are always shown.
    pub fn always(&self) -> Vec<f64> {
        let ends = match self.names.len() {
            0 => vec![],
            count => vec![-0.5, count as f64 - 0.5],
        };
        if self.from_zero && !self.log { [ends, vec![0.0]].concat() } else { ends }
    }

    /// What is written at a plot coordinate of an axis that shows `span` of them; empty at the finer marks of a logarithmic axis.
    pub fn label_at(&self, place: f64, span: f64) -> String {
        if !self.names.is_empty() {
            let whole = place.round();
            let name = (whole == place && whole >= 0.0).then(|| self.names.get(whole as usize)).flatten();
            return name.cloned().unwrap_or_default();
        }
        if self.log { log_label(place, span) } else { number::short(place, 4) }
    }

    /// About `count` round plot coordinates within the bounds, with what is written there.
    pub fn ticks(&self, [low, high]: [f64; 2], count: usize) -> Vec<(f64, String)> {
        let label = |place: f64| (place, self.label_at(place, high - low));
        if !self.names.is_empty() {
            return (0..self.names.len()).map(|i| label(i as f64)).collect();
        }
        if !self.log {
            return number::ticks(low, high, count).into_iter().map(label).collect();
        }
        if high - low < 1.0 {
            return number::ticks(low, high, count).into_iter().map(|t| (t, number::short(self.value(t), 2))).collect();
        }
        let every = ((high - low) / count as f64).ceil().max(1.0) as usize;
        (low.ceil() as i32..=high.floor() as i32).step_by(every).map(|power| label(f64::from(power))).collect()
    }
}

/// `10⁻³` at powers of ten; other marks are named only when there is hardly a power of ten in sight.
fn log_label(place: f64, span: f64) -> String {
    let nearest = place.round();
    if (place - nearest).abs() < 1e-6 {
        let exponent = nearest as i32;
        // Small numbers are read faster than their powers.
        return if (0..=3).contains(&exponent) {
            number::short(10f64.powi(exponent), 3)
        } else {
            number::power_of_ten(exponent)
        };
    }
    let lead = (10f64.powf(place - place.floor())).round();
    let named = if span < 0.7 { true } else { span < 2.2 && (lead == 2.0 || lead == 5.0) };
    // Closer together they need a digit more to be told apart.
    let digits = if span < 0.1 { 4 } else { 2 };
    if named { number::short(10f64.powf(place), digits) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_axes_name_powers_of_ten() {
        let axis = Axis::log("σ");
        assert_eq!(axis.place(0.0), None);
        assert_eq!(axis.place(-1.0), None);
        assert_eq!(axis.place(1000.0), Some(3.0));
        assert!((axis.value(-2.0) - 0.01).abs() < 1e-15);
        assert_eq!(axis.label_at(-3.0, 6.0), "10⁻³");
        assert_eq!(axis.label_at(2.0, 6.0), "100");
        assert_eq!(axis.label_at(2f64.log10(), 6.0), "");
        assert_eq!(axis.label_at(2f64.log10(), 1.0), "2");
        assert_eq!(axis.label_at(3f64.log10(), 0.6), "3");
    }

    #[test]
    fn an_axis_of_names_shows_each_of_them() {
        let axis = Axis::named("rank r", ["1", "2", "full"].map(str::to_owned).to_vec());
        let ticks = axis.ticks([-0.5, 2.5], 1);
        assert_eq!(ticks, [(0.0, "1".to_owned()), (1.0, "2".to_owned()), (2.0, "full".to_owned())]);
        assert_eq!((axis.label_at(0.5, 3.0), axis.label_at(-1.0, 3.0)), (String::new(), String::new()));
        assert_eq!(axis.always(), [-0.5, 2.5]);
    }
}
