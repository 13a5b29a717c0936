//! `rankscope intruders`: directions of a tuned weight that its base had nothing like, and what scaling them down does.

use super::choice;
use super::screen::Screen;
use super::text::{Table, or_dash};
use crate::checkpoint::Dtype;
use crate::error::{Error, Result};
use crate::spectrum::subspaces::EPSILON;
use crate::train::damp::Intruders as Found;
use crate::train::{Rows, data};
use crate::units::exact;
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Intruders {
    /// Adapter
    adapter: PathBuf,

    /// Base model
    #[arg(long, value_name = "MODEL")]
    base: PathBuf,

    /// Held-out data of what was tuned
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,

    /// Text of the base's own kind
    #[arg(long, value_name = "FILE")]
    forget_data: Option<PathBuf>,

    /// Longest sequence in tokens
    #[arg(long, value_name = "N", default_value_t = 512)]
    seq: usize,

    /// Directions of every tuned weight that are looked at
    #[arg(long, value_name = "K", default_value_t = 10)]
    top: usize,

    /// An intruder's largest cosine with any direction of the base
    #[arg(long, value_name = "X", default_value_t = EPSILON)]
    epsilon: f64,

    /// Scales of the intruders that are measured: 1 leaves them, 0 takes them out
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [1.0, 0.75, 0.5, 0.25, 0.0])]
    scales: Vec<f64>,

    /// Write the adapter with its intruders scaled by --scale into this folder
    #[arg(long, value_name = "DIR", requires = "scale")]
    out: Option<PathBuf>,

    /// Scale of what is written
    #[arg(long, value_name = "X", requires = "out")]
    scale: Option<f64>,

    /// Data type of A and B
    #[arg(long, value_parser = choice::written(), default_value = "f32")]
    dtype: Dtype,
}

impl Intruders {
    pub fn run(self, screen: &Screen) -> Result<()> {
        if self.top == 0 {
            return Err(Error::usage("top 0 looks at nothing; expected 1 or more"));
        }
        let found = Found::find(&self.base, &self.adapter, self.top, self.epsilon, screen);
        screen.finish();
        let found = found?;
        let rows = |path: &Option<PathBuf>| -> Result<Option<Rows>> {
            path.as_ref().map(|path| Ok(data::read(path, found.base(), self.seq, screen)?.rows)).transpose()
        };
        let (task, own) = (rows(&self.data)?, rows(&self.forget_data)?);
        let points = if task.is_some() || own.is_some() {
            found.losses(&self.scales, task.as_ref(), own.as_ref(), &mut |_| {}, screen)?
        } else {
            Vec::new()
        };
        screen.finish();
        let trainable = match (&self.out, self.scale) {
            (Some(out), Some(scale)) => Some(found.write(scale, self.dtype, out)?),
            _ => None,
        };
        if screen.json {
            let modules: Vec<Value> =
                found.modules().map(|(name, intruders)| json!({"name": name, "intruders": intruders})).collect();
            return screen.document(&json!({
                "count": found.count(), "epsilon": self.epsilon, "top": self.top, "modules": modules, "points": points,
                "adapter": self.out, "trainable": trainable,
            }));
        }
        let mut table = Table::new(&["module", ">intruders", "places"]);
        for (name, intruders) in found.modules().filter(|(_, intruders)| !intruders.is_empty()) {
            let places: Vec<String> = intruders.iter().map(|one| one.place.to_string()).collect();
            table.push(vec![name.to_owned(), intruders.len().to_string(), places.join(", ")]);
        }
        let of = found.modules().count() * self.top;
        let mut text = format!(
            "{}{} of {of} directions are intruders (cosine under {})\n",
            table.render(),
            found.count(),
            self.epsilon
        );
        if !points.is_empty() {
            let mut table = Table::new(&[">scaled by", ">held-out", ">base's own text"]);
            let loss = |loss: Option<f64>| or_dash(loss.map(|loss| format!("{loss:.4}")));
            for point in &points {
                table.push(vec![format!("{}", point.scale), loss(point.loss), loss(point.forget_loss)]);
            }
            text += &format!("\n{}", table.render());
        }
        if let (Some(out), Some(trainable)) = (&self.out, trainable) {
            text += &format!("{} parameters: {}\n", exact(trainable), out.display());
        }
        screen.print(&text)
    }
}
