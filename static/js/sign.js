// Privileged access: the passkey signs the digest of exactly what the form asks for, and the form is sent with that. A no
// needs no signature.
const decode = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));

const encode = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");

const sign = async (options) => {
  const answer = await navigator.credentials.get({
    publicKey: {
      ...options,
      challenge: decode(options.challenge),
      allowCredentials: options.allowCredentials.map((key) => ({ ...key, id: decode(key.id) })),
    },
  });
  return {
    id: answer.id,
    response: {
      clientDataJSON: encode(answer.response.clientDataJSON),
      authenticatorData: encode(answer.response.authenticatorData),
      signature: encode(answer.response.signature),
    },
  };
};

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-sign]");
  const button = event.submitter;
  if (!form || button?.value === "deny" || form.elements.credential.value) return;
  event.preventDefault();
  const problem = form.querySelector("[data-sign-problem]");
  problem.hidden = true;
  try {
    const options = JSON.parse(document.getElementById(form.dataset.sign).textContent);
    form.elements.credential.value = JSON.stringify(await sign(options));
  } catch {
    problem.hidden = false; // refused, timed out, or no passkey here
    return;
  }
  form.requestSubmit(button);
});
