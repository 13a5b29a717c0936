//! How data are read, for the commands that read them.

use crate::error::Result;
use crate::train::data::{DataOptions, LossOn, columns};
use clap::Args;

#[derive(Debug, Args)]
pub struct DataArgs {
    /// Columns where their names do not say what they are for: prompt=question,completion=answer
    #[arg(long, value_name = "FOR=NAME,…")]
    columns: Option<String>,

    /// A chat template in place of the model's own: chatml, llama3, alpaca, plain, or a file
    #[arg(long, value_name = "NAME|FILE")]
    chat_template: Option<String>,

    /// What is predicted of a conversation or pair: completions, all, or the last turn
    #[arg(long, value_parser = ["completions", "all", "last"])]
    loss_on: Option<String>,
}

impl DataArgs {
    /// The same as options.
    ///
    /// # Errors
    /// Columns that cannot be understood.
    pub fn options(&self) -> Result<DataOptions> {
        let loss_on = match self.loss_on.as_deref() {
            Some("all") => LossOn::All,
            Some("last") => LossOn::Last,
            _ => LossOn::Completions,
        };
        let columns = self.columns.as_deref().map(columns::parse).transpose()?.unwrap_or_default();
        Ok(DataOptions { columns, chat_template: self.chat_template.clone(), loss_on })
    }
}
