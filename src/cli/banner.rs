//! The text `uproar dev` prints once it is ready: few lines, which fit a terminal. The page has the rest.

use std::path::Path;

use super::output::show;
use crate::config::{DEV_CERTIFICATE, DEV_KEY_ID, DEV_REGION, DEV_SECRET};
use crate::net::backend::Kind;
use crate::server::{Ready, reachable};

pub(super) fn print(ready: &Ready, data_dir: &Path) {
    let secure = |tls: bool| if tls { "s" } else { "" };
    let (messaging_s, control_s) = (secure(ready.messaging_tls), secure(ready.control_tls));
    let messaging = format!("ws{messaging_s}://{}", reachable(ready.messaging));
    let control = format!("http{control_s}://{}", reachable(ready.control));
    let page = format!("http{messaging_s}://{}/", reachable(ready.messaging));
    let room = ready.rooms.first().map_or("", |(_, arn)| arn);
    let trust = if ready.messaging_tls || ready.control_tls {
        let certificate = data_dir.join(DEV_CERTIFICATE);
        let certificate = certificate.display();
        format!(
            "\n  export AWS_CA_BUNDLE={certificate}\n  export NODE_EXTRA_CA_CERTS={certificate}"
        )
    } else {
        String::new()
    };
    // The usual needs no line.
    let io = match ready.io.kind {
        Kind::IoUring => String::new(),
        Kind::Epoll => format!("  Served with {}\n", ready.io),
    };
    let text = format!(
        "
  Uproar is ready.

  Chat now    {page}
  Code        {page}#code
  Messaging   {messaging}
  API         {control}
  Lobby       {room}
{io}
  export AWS_ENDPOINT_URL_IVSCHAT={control}
  export AWS_REGION={DEV_REGION} AWS_DEFAULT_REGION={DEV_REGION}
  export AWS_ACCESS_KEY_ID={DEV_KEY_ID}
  export AWS_SECRET_ACCESS_KEY={DEV_SECRET}{trust}

  Ctrl-C stops it.
"
    );
    // The reader of standard output may sleep; this thread serves.
    let printed = std::thread::Builder::new().spawn(move || show(&text));
    drop(printed);
}
