//! `rankscope merge`: a model with an adapter merged into its weights.

use super::choice;
use super::screen::Screen;
use super::settings::{Checking, Given};
use crate::adapter::Adapter;
use crate::checkpoint::{Checkpoint, Dtype};
use crate::device::Choice;
use crate::error::Result;
use crate::model::gpu;
use crate::train::data;
use crate::train::merge::{Change, write_model};
use crate::train::merge_check::{Checked, Compared, check};
use clap::Args;
use serde_json::json;
use std::num::NonZeroUsize;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Merge {
    /// Base model: a folder as on the Hugging Face Hub
    #[arg(long, value_name = "MODEL")]
    base: PathBuf,

    /// Adapter to merge
    #[arg(long, value_name = "ADAPTER")]
    adapter: PathBuf,

    /// Output folder for the merged model
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Data type of the merged model [default: that of each tensor]
    #[arg(long, value_parser = choice::written())]
    dtype: Option<Dtype>,

    /// Compare on this data file, as eval reads it: base with the adapter, merged, merged and in 4 bits again
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,

    /// Number of rows that --check reads, from the first on
    #[arg(long, value_name = "N", default_value = "64", requires = "check")]
    check_rows: NonZeroUsize,

    #[command(flatten)]
    given: Given<Checking>,
}

impl Merge {
    /// Whether it computes a model, beside writing one.
    pub fn computes(&self) -> bool {
        self.check.is_some()
    }

    pub fn run(self, screen: &Screen, device: Choice) -> Result<()> {
        let (base, adapter) = (Checkpoint::open(&self.base)?, Adapter::open(&self.adapter)?);
        let written = write_model(&base, &Change::Adapter(&adapter), self.dtype, &self.out, screen);
        screen.finish();
        let notes = written?;
        let layers = adapter.layers.len();
        let checked = self.checked(&base, &adapter, screen, device)?;
        if screen.json {
            let mut document = json!({"out": self.out, "merged": layers, "notes": notes});
            if let Some(checked) = &checked {
                document["check"] = json!({
                    "rows": checked.rows,
                    "tokens": checked.tokens,
                    "base_loss": checked.base_loss,
                    "adapter_loss": checked.adapter_loss,
                    "merged_loss": checked.merged_loss,
                    "requantized_loss": checked.requantized_loss,
                    "requantized_as": checked.requantized_as,
                    "agreement": checked.agreement,
                    "requantized_agreement": checked.requantized_agreement,
                    "causes": checked.causes,
                });
            }
            return screen.document(&document);
        }
        for note in &notes {
            screen.message(&format!("note: {note}"));
        }
        screen.print(&format!("{layers} layers merged\n{}\n", self.out.display()))?;
        let Some(checked) = checked else { return Ok(()) };
        let causes: String = checked.causes.iter().map(|cause| format!("{cause}\n")).collect();
        screen.print(&format!("{checked}\n{causes}"))
    }

    fn checked(
        &self,
        base: &Checkpoint,
        adapter: &Adapter,
        screen: &Screen,
        device: Choice,
    ) -> Result<Option<Checked>> {
        let Some(file) = &self.check else { return Ok(None) };
        let place = gpu::open(device, None)?;
        let settings = self.given.settings()?;
        let merged = Checkpoint::open(&self.out)?;
        let mut data = data::read_with(file, &merged, settings.seq, &settings.data_options(), screen)?;
        for note in &data.notes {
            screen.message(&format!("{}: {note}", file.display()));
        }
        data.rows.rows.truncate(self.check_rows.get());
        let rows = &data.rows;
        let compared = Compared { base, adapter, merged: &merged, rows, batch: settings.batch, place: &place };
        let checked = check(&compared, screen);
        screen.finish();
        checked.map(Some)
    }
}
