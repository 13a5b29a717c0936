//! Chat templates for a base that has none, by name: one line each.

/// Name, what it is, the template.
pub const TEMPLATES: [(&str, &str, &str); 4] = [
    ("chatml", "ChatML: <|im_start|>role … <|im_end|>, as Qwen and many others", CHATML),
    ("llama3", "Llama 3: headers and <|eot_id|>", LLAMA3),
    ("alpaca", "Alpaca: ### Instruction and ### Response, words only", ALPACA),
    ("plain", "User: and Assistant: in plain words", PLAIN),
];

/// The template of a name.
pub fn template(name: &str) -> Option<&'static str> {
    TEMPLATES.iter().find(|(known, ..)| *known == name).map(|(.., template)| *template)
}

const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}{% if message.role == 'assistant' %}{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}{% else %}{{ message.content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

const LLAMA3: &str = "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' }}{% if message.role == 'assistant' %}{% generation %}{{ message.content | trim + '<|eot_id|>' }}{% endgeneration %}{% else %}{{ message.content | trim + '<|eot_id|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";

const ALPACA: &str = "{{ bos_token }}{% for message in messages %}{% if message.role == 'system' %}{{ message.content + '\n\n' }}{% elif message.role == 'assistant' %}{{ '### Response:\n' }}{% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}{{ '\n\n' }}{% else %}{{ '### Instruction:\n' + message.content + '\n\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}";

const PLAIN: &str = "{{ bos_token }}{% for message in messages %}{% if message.role == 'assistant' %}{{ 'Assistant: ' }}{% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}{{ '\n' }}{% else %}{{ message.role | capitalize + ': ' + message.content + '\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}";
