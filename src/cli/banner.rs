//! The text `uproar dev` prints once it is ready, with everything to paste next.

use std::path::Path;

use super::output::show;
use crate::config::{DEV_KEY_ID, DEV_REGION, DEV_SECRET, token_command};
use crate::net::backend::Kind;
use crate::server::{Ready, reachable};

pub(super) fn print(ready: &Ready, data_dir: &Path) {
    let secure = |tls: bool| if tls { "s" } else { "" };
    let (messaging_s, control_s) = (secure(ready.messaging_tls), secure(ready.control_tls));
    let messaging = format!("ws{messaging_s}://{}", reachable(ready.messaging));
    let control = format!("http{control_s}://{}", reachable(ready.control));
    let page = format!("http{messaging_s}://{}/", reachable(ready.messaging));
    let room = ready.rooms.first().map_or("", |(_, arn)| arn);
    let token = token_command(data_dir);
    let certificate = data_dir.join("dev-cert.pem");
    let trust = if ready.messaging_tls || ready.control_tls {
        format!(
            "\n  export AWS_CA_BUNDLE={0} NODE_EXTRA_CA_CERTS={0}",
            certificate.display()
        )
    } else {
        String::new()
    };
    // The usual needs no line.
    let io = match ready.io.kind {
        Kind::IoUring => String::new(),
        Kind::Epoll => format!("  Served with      {}\n", ready.io),
    };
    let text = format!(
        "
  Uproar is ready.

  Chat now         {page}   (open it twice)
  Messaging        {messaging}
  Control plane    {control}
  Room 'lobby'     {room}
{io}
  Shell, for the AWS CLI and every SDK:
  export AWS_ENDPOINT_URL_IVSCHAT={control} AWS_REGION={DEV_REGION} AWS_DEFAULT_REGION={DEV_REGION}
  export AWS_ACCESS_KEY_ID={DEV_KEY_ID} AWS_SECRET_ACCESS_KEY={DEV_SECRET}{trust}
  aws ivschat list-rooms

  Python (pip install boto3):
  import boto3
  c = boto3.client('ivschat', region_name='{DEV_REGION}', endpoint_url='{control}',
                   aws_access_key_id='{DEV_KEY_ID}', aws_secret_access_key='{DEV_SECRET}')
  t = c.create_chat_token(roomIdentifier='{room}', userId='bob', capabilities=['SEND_MESSAGE'])

  JavaScript (npm install amazon-ivs-chat-messaging):
  const room = new ChatRoom({{ regionOrUrl: '{messaging}', tokenProvider: async () => ({{ token }}) }});
  room.addListener('message', m => console.log(m.sender.userId, m.content)); room.connect();

  A token          {token} --room {room} --user bob --capability SEND_MESSAGE
  Stop             Ctrl-C
"
    );
    // The reader of standard output may sleep; this thread serves.
    let printed = std::thread::Builder::new().spawn(move || show(&text));
    drop(printed);
}
