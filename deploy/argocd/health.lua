-- The health of a Channel, Workspace or ClusterWorkspace. Degraded: a person must act. Progressing: the operator
-- continues automatically.
local status = obj.status or {}

local function condition(kind)
  for _, found in ipairs(status.conditions or {}) do
    if found.type == kind then
      return found
    end
  end
end

local function holds(kind)
  local found = condition(kind)
  return found ~= nil and found.status == "True"
end

local function says(health, kind)
  local found = condition(kind)
  return { status = health, message = found.reason .. ": " .. found.message }
end

if obj.metadata.deletionTimestamp ~= nil then
  if holds("DeletionBlocked") then
    return says("Degraded", "DeletionBlocked")
  end
  return { status = "Progressing", message = "It is being deleted." }
end

if status.observedGeneration ~= obj.metadata.generation or condition("Ready") == nil then
  return { status = "Progressing", message = "The operator has not reconciled this version yet." }
end
if holds("Suspended") then
  return says("Suspended", "Suspended")
end
if holds("Stalled") then
  return says("Degraded", "Stalled")
end
if not holds("Ready") then
  return says("Progressing", "Ready")
end

-- The channel works; the message reports what else is wrong.
for _, kind in ipairs({ "CredentialsApplied", "Connected", "Drifted" }) do
  local found = condition(kind)
  if found ~= nil and (found.status == "False" or kind == "Drifted") then
    return says("Healthy", kind)
  end
end
return says("Healthy", "Ready")
