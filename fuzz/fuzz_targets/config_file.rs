//! Configuration files: what is accepted is within its bounds, what is refused is named, and no secret is shown.
//!
//! Input: the file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uproar::config;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match config::of_text(text) {
        Ok(config::Loaded {
            settings,
            effective,
            ..
        }) => {
            assert!((1..=1024).contains(&settings.shard.shard_count));
            assert!((120..=86_400).contains(&settings.token_life.as_secs()));
            assert!(settings.shard.connections_max > 0);
            let shown = effective.to_string();
            for key in &settings.keys {
                // Words that stand there whatever the secret is.
                let secret = &**key.secret;
                assert!(
                    text.matches(secret).count() > 1 || !shown.contains(secret),
                    "{shown}"
                );
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
