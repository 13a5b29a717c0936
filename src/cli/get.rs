//! `rankscope get`: a repository of the hub, into the hub's own cache.

use super::screen::Screen;
use crate::checkpoint::hub::{Ask, get};
use crate::error::Result;
use crate::units::bytes;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Get {
    /// Repository on the hub: owner/name
    #[arg(value_name = "OWNER/NAME")]
    repository: String,

    /// Branch, tag or commit [default: main]
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,

    /// Of a repository with several GGUF files: the one to fetch, or a part of its name
    #[arg(long, value_name = "NAME")]
    file: Option<String>,

    /// Address of the hub or a mirror [default: HF_ENDPOINT, or https://huggingface.co]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,

    /// Cache folder [default: HF_HUB_CACHE, HF_HOME/hub or ~/.cache/huggingface/hub]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

impl Get {
    pub fn run(self, screen: &Screen) -> Result<()> {
        let Self { repository, revision, file, endpoint, cache } = self;
        let ask = Ask { repository, revision, endpoint, cache, file };
        let got = get(&ask, screen);
        screen.finish();
        let got = got?;
        if screen.json {
            return screen.document(&json!({
                "repository": ask.repository,
                "commit": got.commit,
                "path": got.path,
                "files": got.files,
                "bytes": got.bytes,
                "fetched": got.fetched,
            }));
        }
        let (all, came) = (bytes(got.bytes), bytes(got.fetched));
        screen.print(&format!("{} files, {all}, {came} of them fetched now\n{}\n", got.files, got.path.display()))
    }
}
