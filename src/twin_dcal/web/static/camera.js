// A photo from the camera, where the browser has one (and lets pages of this address use it).

const one = (id) => document.getElementById(id);

export function hasCamera() {
  return Boolean(navigator.mediaDevices?.getUserMedia);
}

// A PNG of what the camera saw when "Take" was pressed, null where it was not. An Error says why there is no camera.
export async function takePhoto() {
  const [dialog, video] = [one("camera"), one("video")];
  const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, facingMode: "user" } }).catch((error) => {
    throw new Error(`The camera cannot be used (${error.name}).`);
  });
  video.srcObject = stream;
  dialog.returnValue = "";
  dialog.showModal();
  const closed = new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  one("shoot").onclick = () => dialog.close("taken");
  one("stop").onclick = () => dialog.close();
  try {
    await video.play();
    await closed;
    return dialog.returnValue === "taken" ? await still(video) : null;
  } finally {
    stream.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  }
}

function still(video) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
