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
    /// The only values that are marked, each with what is written there: those that were measured, where there are few.
    pub only: Vec<(f64, String)>,
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

    /// The axis with marks at these values and nowhere else.
    pub fn marked(self, only: Vec<(f64, String)>) -> Self {
        Self { only, ..self }
    }

    /// An axis of losses: logarithmic where the largest is more than twice the least, so that small differences are seen beside
    /// large ones.
    pub fn of_losses(label: impl Into<String>, losses: impl Iterator<Item = f64>) -> Self {
        let (mut least, mut most) = (f64::INFINITY, 0.0);
        for loss in losses.filter(|loss| loss.is_finite()) {
            (least, most) = (loss.min(least), loss.max(most));
        }
        if least > 0.0 && most > 2.0 * least { Self::log(label) } else { Self::linear(label) }
    }

    /// Plot coordinates of the values that alone are marked.
    pub fn marks_at(&self) -> Option<Vec<f64>> {
        let places = self.only.iter().filter_map(|(value, _)| self.place(*value)).collect::<Vec<_>>();
        (!places.is_empty()).then_some(places)
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
            0 => match self.marks_at().as_deref() {
                // The number at the last mark has room beside it.
                Some([first, .., last]) => vec![first - 0.06 * (last - first), last + 0.06 * (last - first)],
                _ => vec![],
            },
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
        if !self.only.is_empty() {
            let is_it = |(value, _): &&(f64, String)| self.place(*value).is_some_and(|at| (at - place).abs() < 1e-6);
            return self.only.iter().find(is_it).map(|(_, text)| text.clone()).unwrap_or_default();
        }
        if self.log { log_label(place, span) } else { large(place, 4) }
    }

    /// About `count` round plot coordinates within the bounds, with what is written there.
    pub fn ticks(&self, [low, high]: [f64; 2], count: usize) -> Vec<(f64, String)> {
        let label = |place: f64| (place, self.label_at(place, high - low));
        if !self.names.is_empty() {
            return (0..self.names.len()).map(|i| label(i as f64)).collect();
        }
        if let Some(places) = self.marks_at() {
            return places.into_iter().map(label).collect();
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

/// Below so many powers of ten twice and five times them are named too, and all are written alike.
const FEW: f64 = 3.0;

/// `10⁻³` at powers of ten; other marks are named only when there is hardly a power of ten in sight.
fn log_label(place: f64, span: f64) -> String {
    let nearest = place.round();
    if (place - nearest).abs() < 1e-6 {
        let exponent = nearest as i32;
        if span < FEW {
            return large(10f64.powi(exponent), 2);
        }
        // Small numbers are read faster than their powers.
        return if (0..=3).contains(&exponent) {
            large(10f64.powi(exponent), 3)
        } else {
            number::power_of_ten(exponent)
        };
    }
    let lead = (10f64.powf(place - place.floor())).round();
    let named = if span < 0.7 { true } else { span < FEW && (lead == 2.0 || lead == 5.0) };
    // Closer together they need a digit more to be told apart.
    let digits = if span < 0.1 { 4 } else { 2 };
    if named { large(10f64.powf(place), digits) } else { String::new() }
}

/// A number of an axis; a large whole one as in tables, with its digits in groups.
fn large(value: f64, digits: usize) -> String {
    let whole = value.round();
    if (1e3..1e9).contains(&whole) && (value - whole).abs() < 1e-6 * whole {
        crate::units::exact(whole as u64)
    } else {
        number::short(value, digits)
    }
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
        // Beside 0.02 and 0.005 a hundredth is no power of ten.
        assert_eq!([-2.0, 0.02f64.log10(), 4.0].map(|place| axis.label_at(place, 1.5)), ["0.01", "0.02", "10,000"]);
    }

    #[test]
    fn only_what_was_measured_is_marked() {
        let axis = Axis::log("rank r").marked([1.0, 4.0, 16.0].map(|r| (r, r.to_string())).to_vec());
        let texts: Vec<String> = axis.ticks([0.0, 1.3], 2).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["1", "4", "16"]);
        assert_eq!(axis.label_at(1.0, 1.3), "", "10 was not");
        assert_eq!(Axis::linear("tokens/s").label_at(50_000.0, 1e5), "50,000");
    }

    #[test]
    fn losses_that_differ_much_are_drawn_by_their_ratio() {
        assert!(Axis::of_losses("loss", [9.0, 1.2, f64::NAN].into_iter()).log);
        assert!(!Axis::of_losses("loss", [2.0, 1.2].into_iter()).log);
        assert!(!Axis::of_losses("loss", [2.0, 0.0].into_iter()).log);
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
