// Photos from the camera, where the browser has one (and lets pages of this address use it).

const one = (id) => document.getElementById(id);

export function hasCamera() {
  return Boolean(navigator.mediaDevices?.getUserMedia);
}

const PAUSE = 400; // milliseconds between photos in a row, in which a face moves a little

// PNGs of what the camera saw: one, some in a row, or none where it was cancelled. An Error says why there is no camera.
export async function takePhotos() {
  const [dialog, video, buttons] = [one("camera"), one("video"), [one("shoot"), one("row")]];
  const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, facingMode: "user" } }).catch((error) => {
    throw new Error(`The camera cannot be used (${error.name}).`);
  });
  const photos = [];
  const take = async (count) => {
    for (const button of buttons) button.disabled = true;
    while (dialog.open) {
      photos.push(await still(video));
      if (photos.length === count) return dialog.close("taken");
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  };
  video.srcObject = stream;
  dialog.returnValue = "";
  dialog.showModal();
  const closed = new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  for (const button of buttons) {
    button.disabled = false;
    button.onclick = () => take(Number(button.value));
  }
  one("stop").onclick = () => dialog.close();
  try {
    await video.play();
    await closed;
    return dialog.returnValue === "taken" ? photos : [];
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
