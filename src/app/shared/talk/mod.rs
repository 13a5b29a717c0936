//! Asking models: one prompt, the answers beside each other while they are made. What is known of them is here, what is painted in
//! [`look`].

mod look;

use std::sync::{Arc, Mutex, PoisonError};

use crate::device::Choice;
use crate::error::Result;
use crate::job::{Running, Stream, Wake};
use crate::train::talk::{self, News, Question, Side};

pub use look::Look;

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// An answer of every side.
    Ask(Question),
    /// No more of it.
    Stop,
}

/// One side's answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Who answers, in a few words.
    pub name: String,
    /// What it has said so far.
    pub text: String,
    /// How far it is.
    pub phase: Phase,
}

/// How far an answer is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Phase {
    /// Another side comes first.
    #[default]
    Waiting,
    /// The model is being read, or the first token is being computed.
    Reading,
    /// Token after token.
    Writing,
    /// At its end: tokens and seconds.
    Done(usize, f64),
    /// Nobody waits for the rest.
    Stopped,
}

/// The answers, and the work behind them.
pub struct Talk {
    wake: Wake,
    memory: Arc<Mutex<talk::Talk>>,
    stream: Option<Stream<News>>,
    prompt: String,
    answers: Vec<Answer>,
    problem: Option<String>,
}

impl Talk {
    /// Nothing was asked yet; `wake` makes the window look again.
    pub fn new(wake: Wake) -> Self {
        Self { wake, memory: Arc::default(), stream: None, prompt: String::new(), answers: Vec::new(), problem: None }
    }

    /// Asks those of these names. Who they are is found out beside the window.
    pub fn ask(
        &mut self,
        names: Vec<String>,
        question: Question,
        device: Choice,
        sides: impl FnOnce() -> Result<Vec<Side>> + Send + 'static,
    ) {
        self.prompt.clone_from(&question.prompt);
        self.answers = names.into_iter().map(|name| Answer { name, ..Answer::default() }).collect();
        self.problem = None;
        let memory = Arc::clone(&self.memory);
        self.stream = Some(Stream::spawn("Answering", Arc::clone(&self.wake), move |progress, send| {
            let mut talk = memory.lock().unwrap_or_else(PoisonError::into_inner);
            talk.answer_each(&sides()?, &question, device, progress, send)
        }));
    }

    /// Ends the answers where they are.
    pub fn stop(&self) {
        if let Some(stream) = &self.stream {
            stream.job().cancel();
        }
    }

    /// Forgets what was said: it was about another model.
    pub fn clear(&mut self) {
        *self = Self::new(Arc::clone(&self.wake));
    }

    /// Takes in what has come.
    pub fn logic(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let end = stream.take();
        for news in stream.items() {
            let (News::Begins(at) | News::Text(at, _) | News::Ends(at, ..)) = news;
            let Some(answer) = self.answers.get_mut(at) else { continue };
            match news {
                News::Begins(_) => answer.phase = Phase::Reading,
                News::Text(_, text) => (answer.phase, answer.text) = (Phase::Writing, text),
                News::Ends(_, tokens, seconds) => answer.phase = Phase::Done(tokens, seconds),
            }
        }
        let Some(result) = end else { return };
        self.stream = None;
        for answer in self.answers.iter_mut().filter(|answer| !matches!(answer.phase, Phase::Done(..))) {
            answer.phase = Phase::Stopped;
        }
        self.problem = result.err().filter(|error| !error.is_cancelled()).map(|error| error.to_string());
    }

    /// What was asked last.
    pub fn prompt(&self) -> &str {
        &self.prompt
    }

    /// The answers to it.
    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }

    /// Why there are none.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// The work, while there is some.
    pub fn running(&self) -> Option<&dyn Running> {
        self.stream.as_ref().map(|stream| stream.job() as &dyn Running)
    }
}
